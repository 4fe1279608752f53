"""Windows -> the fewest and fullest forward passes that score them all.

With causal attention a window that is the beginning of another one costs nothing: the windows of a
user's events j, j+1, ... begin at the same row until the log is longer than a window, so one pass
over the longest answers for all. Rectangles are cut of lines sorted by length: little is filling.

    index of three windows        passes
    r4                            r4 r5 r6    -> read at 0, 1 and 2
    r4 r5
    r4 r5 r6
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

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


def compact(windows: Windows) -> Windows:
    """The same windows over the rows that they use."""
    used, index = np.unique(windows.index, return_inverse=True)
    return Windows(windows.rows[used], index.reshape(windows.index.shape), windows.length)


class Lines(Struct, frozen=True):
    """Which windows are computed, and who is read off them."""

    lines: Ints  # (lines,) positions in the batch
    windows: Ints  # (windows,) positions in the batch, in the order of their lines
    ends: Ints  # (lines,) of `windows`: where those of a line end


def lines_of(
    windows: Windows, shared: bool, index: Tensor | None = None, sort: bool = False
) -> Lines:
    """`shared`: causal, so that a window that begins another one is read off that one.

    `index`: that of the windows where a GPU has it already and shall compare; else the host does.
    `sort`: longest first, for rectangles with little filling; else as they stand in the batch, long
    ones among short ones, so that passes without filling are full of events and not of lines.
    """
    leader = np.arange(len(windows))
    if shared and len(windows):
        leader = _leaders(windows, index)
    readers = np.bincount(leader, minlength=len(windows))
    lines = np.flatnonzero(readers)
    if sort:
        lines = lines[_ascending(-windows.length[lines])]
    rank = np.empty(len(windows), np.int64)
    rank[lines] = np.arange(len(lines))
    return Lines(lines, _ascending(rank[leader]), np.cumsum(readers[lines]))


def passes(windows: Windows, budget: int, shared: bool) -> Iterator[Pass]:
    """Passes of at most `budget` events each (a single window may be larger). `shared`: causal."""
    if not len(windows):
        return
    order = lines_of(windows, shared, sort=True)
    begin = 0
    while begin < len(order.lines):
        width = int(windows.length[order.lines[begin]])
        end = begin + max(1, budget // width)
        chunk, ends = order.lines[begin:end], order.ends[begin:end]
        first = order.ends[begin - 1] if begin else 0
        which = order.windows[first : ends[-1]]
        yield Pass(
            left_aligned(windows, chunk, width),
            windows.length[chunk],
            which,
            np.repeat(np.arange(len(chunk)), np.diff(ends, prepend=first)),
            windows.length[which] - 1,
        )
        begin = end


def left_aligned(windows: Windows, which: Ints, width: int) -> Ints:
    size = windows.index.shape[1]
    at = np.arange(width) + (size - windows.length[which])[:, None]
    return np.take_along_axis(windows.index[which], np.minimum(at, size - 1), axis=1)


def _leaders(windows: Windows, index: Tensor | None) -> Ints:
    """For each window one that it is, or begins: the longest that has the same first row."""
    count, size = windows.index.shape
    first = windows.index[np.arange(count), size - windows.length].astype(np.int64)
    order = _ascending(first * (size + 1) + windows.length)
    ends = np.flatnonzero(np.append(first[order][1:] != first[order][:-1], True))
    leader = np.empty(count, np.int64)
    leader[order] = np.repeat(order[ends], np.diff(ends, prepend=-1))
    follower = np.flatnonzero(leader != np.arange(count))
    if not len(follower):
        return leader
    strangers = follower[~_begins(windows, index, follower, leader[follower])]
    leader[strangers] = strangers  # rows out of order: the same first row, but other ones after it
    return leader


def _ascending(keys: Ints) -> Ints:
    """A stable argsort of small numbers: a sort of keys with their places takes 0.6 of the time."""
    places = np.arange(len(keys))
    bits = len(keys).bit_length()
    return np.sort(keys << bits | places) & ((1 << bits) - 1)


def _begins(windows: Windows, index: Tensor | None, some: Ints, others: Ints) -> NDArray[np.bool_]:
    """(pairs,) whether each of `some` is the beginning of its one of the `others`."""
    size = windows.index.shape[1]
    missing = windows.length[others] - windows.length[some]
    outside = size - windows.length[some]
    found: NDArray[np.bool_]
    if index is None:  # a call of NumPy's costs a third of one of PyTorch's, and windows are few
        at = np.arange(size)
        begin = np.maximum(at - missing[:, None], 0) + others[:, None] * size
        same = windows.index[some] == windows.index.ravel()[begin]
        found = (same | (at < outside[:, None])).all(1)
        return found
    own, theirs, less, left = (
        torch.from_numpy(part).to(index.device) for part in (some, others, missing, outside)
    )
    place = torch.arange(size, device=index.device)
    shifted = index[theirs].gather(1, (place - less[:, None]).clamp(min=0))
    alike = (index[own] == shifted) | (place < left[:, None])
    found = alike.all(1).cpu().numpy()
    return found
