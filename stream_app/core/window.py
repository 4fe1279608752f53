"""Stage 2, window: what one user did lately, as of each event.

A user's log holds the accepted events as fixed-size rows in the order of their offsets. A new row
is judged by the last `policy.horizon` rows of the log before it, and by nothing else:

    log   r1 r2 r3 ... r75 r76 | new      duplicate: its event id is among them
          `---- horizon ----'             late: by more than `lateness_ms` behind the newest one
                                          otherwise accepted, and appended

The window of an accepted event is the newest `size` of these rows and itself, in event-time order,
that are not after it and not older than `span_ms`. Equal times keep the order of the log. So
duplicates, lateness and windows do not depend on how records fell into batches, on what came later,
or on who asks: redelivery, replay and offline scoring in the same order agree.

Pure. `accept` is the reference that the Redis script repeats; `tests/core/oracle.py` is the naive
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xxhash
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.core.errors import Misconfigured

HEAD: Final = (("at_ms", "<i8"), ("id", "<u8"), ("seq", "<u8"))  # every row begins with these
ID: Final = slice(8, 16)
SEQ: Final = slice(16, 24)
OFFSET_BITS: Final = 48  # seq = source tag << 48 | offset + 1

STARTED_OVER: Final = (
    "an input topic's offsets do not fit the windows in Redis: it was made anew under its old "
    "name. Choose another redis.prefix (SHOPSENTRY_REDIS__PREFIX) for it, or another name."
)

DUPLICATE: Final = -1  # places below 0: not in the log, and why
LATE: Final = -2

Rows = NDArray[np.void]  # structured: HEAD, then the schema's fields
Ints = NDArray[np.int64]


class WindowPolicy(Struct, frozen=True, kw_only=True):
    """How much of a user's past is kept, and how late an event may be."""

    size: int = 64  # events in a window, the scored one included
    slack: int = 12  # further rows, so that late arrivals do not push others out of a window
    span_ms: int = 24 * 3600 * 1000
    lateness_ms: int = 10 * 60 * 1000

    @property
    def horizon(self) -> int:
        """Rows before an event that may matter to it."""
        return self.size + self.slack


class Logs(Struct, frozen=True):
    """The logs of the users of one batch, and where each event of the batch stands in them."""

    rows: Rows  # (rows,) all logs, one after another
    start: Ints  # (events,) the first row of the event's user
    place: Ints  # (events,) the event's own row, or DUPLICATE, or LATE


class Windows(Struct, frozen=True):
    """The windows of a batch of events, over shared rows. Oldest first, the scored event last."""

    rows: Rows  # (rows,)
    index: Ints  # (windows, size) into `rows`, right-aligned; left of the window any valid index
    length: Ints  # (windows,) 1..size

    def __len__(self) -> int:
        return len(self.length)

    def take(self, which: Ints) -> Windows:
        return Windows(self.rows, self.index[which], self.length[which])

    def mask(self) -> NDArray[np.bool_]:
        """(windows, size) true where there is an event."""
        size = self.index.shape[1]
        inside: NDArray[np.bool_] = np.arange(size) >= size - self.length[:, None]
        return inside


def source_tag(topic: str) -> int:
    """16 bits that tell the input topics apart within a log."""
    return xxhash.xxh3_64_intdigest(topic.encode()) & 0xFFFF


def seq_of(tag: int, next_offset: int) -> int:
    """The seq of the record before `next_offset`; as a committed seq, all up to there is done."""
    return tag << OFFSET_BITS | next_offset


def raised(known: dict[int, int], committed: Sequence[int]) -> Sequence[int]:
    """`committed`, each as new as `known` says, which learns from it. Seqs by source tag."""
    newest = {seq >> OFFSET_BITS: max(seq, known.get(seq >> OFFSET_BITS, 0)) for seq in committed}
    known.clear()
    known.update(newest)
    return list(newest.values())


def concat(batches: list[Windows]) -> Windows:
    """Windows of several batches as one."""
    if len(batches) == 1:
        return batches[0]
    base = np.cumsum([0, *(len(b.rows) for b in batches[:-1])])
    return Windows(
        np.concatenate([b.rows for b in batches]),
        np.concatenate([b.index + at for b, at in zip(batches, base, strict=True)]),
        np.concatenate([b.length for b in batches]),
    )


def accept(
    log: bytes,
    new: bytes,
    row_bytes: int,
    policy: WindowPolicy,
    committed: Sequence[int],
    known: Sequence[int] = (),
) -> tuple[bytes, list[int], int]:
    """Judge the rows `new` (one source, ascending offsets) and append the accepted ones to `log`.

    A row at or below the log's newest offset of its source was judged before: it is found again
    where it stands and judged by the same rows as then. `committed` has the committed seq of each
    source that the worker owns: rows above it are kept, since they may come again. If such a row is
    gone all the same, the store lost it, and it is put where it stood.

    A zombie's commits are old: its rows may have been forgotten under newer ones. `known` are those
    that anybody told. Rows below them were not lost; and where several sources meet they take the
    place of `committed`, since the newest row of a log tells less there.

    Raises Misconfigured if another event has the same seq: the topic's offsets started over.
    Returns the log as these rows see it, the place of each of them in it (or DUPLICATE, LATE), and
    how many of its oldest rows need not be stored any more.
    """
    places: list[int] = []
    if len(committed) > 1:
        committed = known or committed
    newest_seq = _newest_seq(log, new[SEQ], row_bytes, _settled_seq(new[SEQ], committed) or 0)
    settled_seq = _settled_seq(new[SEQ], known or committed)
    old = len(log) // row_bytes
    for at in range(0, len(new), row_bytes):
        row = new[at : at + row_bytes]
        seq = int.from_bytes(row[SEQ], "little")
        if seq > newest_seq:
            end = len(log)
        else:
            end = _find(log, row[SEQ], SEQ.start, 0, row_bytes)
            if end >= 0 and log[end:][ID] != row[ID]:
                raise Misconfigured(STARTED_OVER)
            if end >= 0:
                places.append(end // row_bytes)
                continue
            end = _end_before(log, seq, row_bytes)
        begin = max(0, end - policy.horizon * row_bytes)
        if 0 <= _find(log, row[ID], ID.start, begin, row_bytes) < end:
            places.append(DUPLICATE)
        elif _is_late(row, log, begin, end, policy.lateness_ms):
            places.append(LATE)
        elif seq > newest_seq:
            places.append(end // row_bytes)
            log, newest_seq = log + row, seq
        elif settled_seq is not None and seq > settled_seq:  # accepted once, and lost since
            places.append(end // row_bytes)
            log = log[:end] + row + log[end:]
            old += 1
        else:  # accepted once, forgotten since: it was committed long ago
            places.append(DUPLICATE)
    return log, places, _forgettable(log, row_bytes, policy.horizon, committed, old)


def _find(log: bytes, needle: bytes, field_at: int, begin: int, row_bytes: int) -> int:
    """Where the first row from `begin` on starts that has `needle` at `field_at`, or -1."""
    found = log.find(needle, begin)
    while found >= 0 and found % row_bytes != field_at:
        found = log.find(needle, found + 1)
    return found - field_at if found >= 0 else -1


def _settled_seq(like: bytes, committed: Sequence[int]) -> int | None:
    """The committed seq of the source of the seq `like`, if it is known."""
    tag = int.from_bytes(like, "little") >> OFFSET_BITS
    return max((seq for seq in committed if seq >> OFFSET_BITS == tag), default=None)


def _newest_seq(log: bytes, like: bytes, row_bytes: int, newest: int) -> int:
    """The newest seq known of the source of the seq `like`, at least `newest`."""
    tag = int.from_bytes(like, "little") >> OFFSET_BITS
    for end in range(len(log), 0, -row_bytes):
        seq = int.from_bytes(log[end - row_bytes :][SEQ], "little")
        if seq >> OFFSET_BITS == tag:
            return max(newest, seq)
    return newest


def _end_before(log: bytes, seq: int, row_bytes: int) -> int:
    """Where the rows end that came before `seq` of its source."""
    tag = seq >> OFFSET_BITS
    for end in range(len(log), 0, -row_bytes):
        other = int.from_bytes(log[end - row_bytes :][SEQ], "little")
        if other >> OFFSET_BITS == tag and other < seq:
            return end
    return 0


def _is_late(row: bytes, log: bytes, begin: int, end: int, lateness_ms: int) -> bool:
    size = len(row)

    def at_ms(rows: bytes, at: int) -> int:
        return int.from_bytes(rows[at : at + 8], "little", signed=True)

    own_ms = at_ms(row, 0)
    # Accepted rows are not late themselves: if the last one is not after us, none makes us late.
    if begin == end or own_ms >= at_ms(log, end - size):
        return False
    return any(at_ms(log, at) > own_ms + lateness_ms for at in range(begin, end, size))


def _forgettable(
    log: bytes, row_bytes: int, horizon: int, committed: Sequence[int], old: int
) -> int:
    """Rows at the front that neither a row to come, nor one that may come again, looks at. Of the
    rows, the first `old` were there before.
    """
    if len(log) // row_bytes <= horizon:
        return 0
    first = rows = old
    limit = {seq >> OFFSET_BITS: seq for seq in committed}
    unsettled = set(limit)
    while unsettled and rows > 0:
        rows -= 1
        seq = int.from_bytes(log[rows * row_bytes :][SEQ], "little")
        tag = seq >> OFFSET_BITS
        if seq > limit.get(tag, seq):
            first = rows
        else:
            unsettled.discard(tag)
    return max(0, first - horizon)


def as_of(logs: Logs, policy: WindowPolicy) -> tuple[Ints, Windows]:
    """Cut the window of each accepted event.

    Returns the accepted events' positions in the batch, ascending, and their windows.
    """
    accepted = np.flatnonzero(logs.place >= 0)
    place, start = logs.place[accepted], logs.start[accepted]
    at_ms = np.ascontiguousarray(logs.rows["at_ms"])
    own_ms = at_ms[place]
    index = place[:, None] - np.arange(policy.size - 1, -1, -1)
    length = np.minimum(place - start + 1, policy.size)
    np.maximum(index, 0, out=index)

    unordered = _out_of_order(at_ms, start, place, policy.horizon)
    if len(unordered):
        index[unordered], length[unordered] = _sorted_windows(
            at_ms, start[unordered], place[unordered], policy
        )
    young = at_ms[index] > (own_ms - policy.span_ms)[:, None]
    valid = np.arange(policy.size) >= policy.size - length[:, None]
    return accepted, Windows(logs.rows, index, (young & valid).sum(1))


def _out_of_order(at_ms: Ints, start: Ints, place: Ints, horizon: int) -> Ints:
    """Which events have a step back in time among their last `horizon` + 1 rows."""
    back = np.zeros(len(at_ms) + 1, np.int64)  # back[i]: steps back among rows 1..i-1
    np.cumsum(at_ms[1:] < at_ms[:-1], out=back[2:] if len(at_ms) else None)
    first = np.maximum(start, place - horizon)
    return np.flatnonzero(back[place + 1] != back[first + 1])


def _sorted_windows(
    at_ms: Ints, start: Ints, place: Ints, policy: WindowPolicy
) -> tuple[Ints, Ints]:
    """Windows of events whose rows must be put into event-time order first."""
    near = place[:, None] - np.arange(policy.horizon, -1, -1)  # (events, horizon + 1), log order
    counts = near >= start[:, None]
    np.maximum(near, 0, out=near)
    times = at_ms[near]
    counts &= times <= at_ms[place][:, None]
    times[~counts] = -1  # to the front: outside the user's log, or after the event
    order = np.argsort(times, axis=1, kind="stable")[:, -policy.size :]
    return np.take_along_axis(near, order, axis=1), np.minimum(counts.sum(1), policy.size)
