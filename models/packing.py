"""Windows -> the fewest and fullest forward passes that score them all.

With causal attention a window that is the beginning of another one costs nothing: the windows of a
user's events j, j+1, ... begin at the same row until the log is longer than a window, so one pass
over the longest answers for all. What is left is sorted by length, so that little is filling.

    index of three windows        passes
    r4                            r4 r5 r6    -> read at 0, 1 and 2
    r4 r5
    r4 r5 r6
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.core.window import Ints, Windows


class Pass(Struct, frozen=True):
    """One rectangle of events, left-aligned, and where in it the windows' own events are."""

    index: Ints  # (lines, events) into the rows; right of a line's length its last row again
    lengths: Ints  # (lines,)
    windows: Ints  # (read,) positions in the batch
    line: Ints  # (read,)
    place: Ints  # (read,)


def sound(windows: Windows, types: int, longest: int) -> NDArray[np.bool_]:
    """Which windows can be handed to a device at all: lengths, indices and types within bounds."""
    size, rows = windows.index.shape[1], windows.rows
    fine: NDArray[np.bool_] = (windows.length >= 1) & (windows.length <= min(size, longest))
    index = windows.index
    if len(index) and (index.min() < 0 or index.max() >= len(rows)):
        within = (index >= 0) & (index < len(rows))
        fine &= (within | ~windows.mask()).all(1)
    if len(rows) and rows["type"].max() > types:
        known = rows["type"] <= types
        fine &= (known[np.clip(index, 0, len(rows) - 1)] | ~windows.mask()).all(1)
    return fine


def passes(windows: Windows, budget: int, shared: bool) -> Iterator[Pass]:
    """Passes of at most `budget` events each (a single window may be larger). `shared`: causal."""
    if not len(windows):
        return
    leader = _leaders(windows) if shared else np.arange(len(windows))
    lines = np.unique(leader)
    lines = lines[np.argsort(-windows.length[lines], kind="stable")]  # longest first
    followers = np.argsort(leader, kind="stable")
    first_of = np.searchsorted(leader[followers], np.arange(len(windows) + 1))
    begin = 0
    while begin < len(lines):
        width = int(windows.length[lines[begin]])
        chunk = lines[begin : begin + max(1, budget // width)]
        begin += len(chunk)
        read = [followers[first_of[line] : first_of[line + 1]] for line in chunk]
        which = np.concatenate(read)
        yield Pass(
            left_aligned(windows, chunk, width),
            windows.length[chunk],
            which,
            np.repeat(np.arange(len(chunk)), [len(r) for r in read]),
            windows.length[which] - 1,
        )


def left_aligned(windows: Windows, which: Ints, width: int) -> Ints:
    size = windows.index.shape[1]
    at = np.arange(width) + (size - windows.length[which])[:, None]
    return np.take_along_axis(windows.index[which], np.minimum(at, size - 1), axis=1)


def _leaders(windows: Windows) -> Ints:
    """For each window one that it is, or begins: the longest that has the same first row."""
    count, size = windows.index.shape
    first = windows.index[np.arange(count), size - windows.length]
    order = np.lexsort((windows.length, first))
    ends = np.flatnonzero(np.append(first[order][1:] != first[order][:-1], True))
    leader = np.empty(count, np.int64)
    leader[order] = np.repeat(order[ends], np.diff(ends, prepend=-1))
    follower = np.flatnonzero(leader != np.arange(count))
    width = int(windows.length[follower].max(initial=0))
    own, others = (left_aligned(windows, some, width) for some in (follower, leader[follower]))
    begins = ((own == others) | (np.arange(width) >= windows.length[follower, None])).all(1)
    strangers = follower[~begins]  # rows out of order: the same first row, but other ones after it
    leader[strangers] = strangers
    return leader
