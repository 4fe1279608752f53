"""Stage 2: users' logs in Redis, slid by one script call for each 384 users of a partition.

    key    <prefix>:{<partition>}:w:<user>     the braces keep a partition on one shard
    value  the user's log, little endian, in multiples of a row
             head    bytes of a row and 2^15, so that workers that know of other rows refuse (2),
                     slots (4), MAGIC (2), rows (4), sources (2), when the key's end was put off,
                     in s (4), the latest at_ms (8)
             newest  of each source: offset + 1 (6), tag (2)
             marks   2 bytes of the event id in each slot, filled up to a multiple of a row
             slots   the rows, in the order in which they were accepted, and room for more
             end     a byte more than a multiple of a row: workers that know of rows alone refuse
    key    <prefix>:{<partition>}:committed    newest committed seqs that anybody told

The script (windows.lua) repeats `core.window.accept`, and writes a log only with rows that it did
not have: redelivery, a batch that failed half-way, and a worker that lost its partition change
nothing. A log expires when its user was silent for a window's span and an hour.

Nearly always a row is plainly new. The front of a log tells as much, so the script writes it into
the next slot, and the log is read by an MGET right behind: between the two it can have changed.
Then its newest rows are not those that we sent, and the call is made again, which answers with the
log as our rows saw it.

Rows are grouped and logs put together on the event loop, which is cheap; the call waits in a
thread. Chunks are called at the same time, so that one is read while Redis works on the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.core.record import Source
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, Logs, Rows, WindowPolicy, source_tag
from stream_app.edges.narrow_rows import FRAME, NarrowRows
from stream_app.edges.redis_client import Client, Script

GRACE_S: Final = 3600

HEAD_BYTES: Final = 26
NARROW: Final = 0x8000  # in the head, with the bytes of a row
MAGIC: Final = b"\1L"
_HEAD: Final = np.dtype(
    [("form", "<u2"), ("slots", "<u4"), ("magic", "S2"), ("rows", "<u4"), ("sources", "<u2")]
)  # and what the script alone reads
END: Final = b"\0"


class _Chunk(NamedTuple):
    """A call of the script."""

    keys: list[bytes]
    known: bytes
    args: tuple[bytes | int, ...]


class _Stored(NamedTuple):
    """Users' logs one after another, with heads and free slots between them."""

    rows: Rows
    first: Ints  # (users,) where the rows of each begin, in rows
    lengths: Ints  # (users,)
    changed: Ints  # users whose logs were changed after the script: the newest rows are not ours


class _Sent(NamedTuple):
    """Of each user's rows: how many, and the first and the last seq."""

    counts: Ints
    oldest: NDArray[np.uint64]
    newest: NDArray[np.uint64]


_Reply = tuple[list[bytes], list[bytes | None]]  # the script's, and the stored logs after it


class RedisWindows:
    """A `WindowStore`. `row` is the encoder's dtype; logs under `prefix` must be of the same."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        row: np.dtype[np.void],
        policy: WindowPolicy,
        *,
        executor: Executor,
        ttl_s: int | None = None,
        chunk_users: int = 384,
    ) -> None:
        """`ttl_s`: seconds after which a silent user is forgotten; the span and an hour if None."""
        self._prefix = prefix
        self._row = NarrowRows(row)
        self._chunk_users = chunk_users
        if ttl_s is None:
            ttl_s = -(-policy.span_ms // 1000) + GRACE_S
        self._settings = (self._row.size, policy.horizon, policy.lateness_ms, ttl_s)
        self._script: Script[list[bytes]] = Script(
            client, executor, "windows_judged.lua", "windows_stored.lua", "windows.lua"
        )

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        """See `ports.WindowStore`. Raises StoreUnavailable, Misconfigured."""
        names = list(dict.fromkeys(users))
        if not names:
            return Logs(rows, np.empty(0, np.int64), np.empty(0, np.int64))
        number = dict(zip(names, range(len(names)), strict=True))
        user = np.fromiter(map(number.__getitem__, users), np.int64, len(users))
        order = np.argsort(user, kind="stable")
        counts = np.bincount(user)
        own = np.cumsum(counts) - counts  # the first of a user's rows among the grouped ones
        seqs = rows["seq"]
        sent = _Sent(counts, seqs[order[own]], seqs[order[own + counts - 1]])
        logs, odd = await self._call(
            source, names, self._row.narrowed(rows, order), sent, committed
        )
        first, lengths = logs.first, logs.lengths
        grouped = np.arange(len(users)) + np.repeat(first + lengths - counts - own, counts)
        for which, places in odd:
            at = own[which]
            grouped[at : at + len(places)] = np.where(places < 0, places, places + first[which])
        place = np.empty(len(users), np.int64)
        place[order] = grouped
        return Logs(logs.rows, first[user], place)

    async def _call(
        self,
        source: Source,
        names: Sequence[bytes],
        data: tuple[bytes, bytes],
        sent: _Sent,
        committed: Sequence[int],
    ) -> tuple[_Stored, list[tuple[int, Ints]]]:
        """The users' logs, and places where not all rows were appended. `data` are the rows, user
        by user, and their marks.
        """
        shard = f"{self._prefix}:{{{source.partition}}}:".encode()
        head, known = shard + b"w:", shard + b"committed"
        tag = source_tag(source.topic).to_bytes(2, "little")
        limits = b"".join(seq.to_bytes(8, "little") for seq in committed)
        narrow, marks = data
        size, ends = self._row.size, [0, *np.cumsum(sent.counts).tolist()]
        packed_counts = sent.counts.astype("<u4").tobytes()
        chunks = []
        for begin in range(0, len(names), self._chunk_users):
            end = min(begin + self._chunk_users, len(names))
            keys = [head + name for name in names[begin:end]]
            args = (
                *self._settings,
                tag,
                limits,
                packed_counts[4 * begin : 4 * end],
                narrow[size * ends[begin] : size * ends[end]],
                marks[2 * ends[begin] : 2 * ends[end]],
                self._row.wide.itemsize,
            )
            chunks.append(_Chunk(keys, known, args))
        replies = await all_ended([self._ask(chunk) for chunk in chunks])
        while len((logs := self._logs(replies, sent)).changed):
            for at in np.unique(logs.changed // self._chunk_users).tolist():
                replies[at] = await self._ask(chunks[at])
        odd: list[tuple[int, Ints]] = []
        for at, ((places, *_), _) in enumerate(replies):
            odd += _unpacked(places, at * self._chunk_users, sent.counts)
        return logs, odd

    async def _ask(self, chunk: _Chunk) -> _Reply:
        return await self._script.and_read([*chunk.keys, chunk.known], chunk.args, chunk.keys)

    def _logs(self, replies: Sequence[_Reply], sent: _Sent) -> _Stored:
        size = self._row.size
        stored: list[bytes] = []
        whole: list[int] = []
        for (_, users, *as_seen), values in replies:
            own = [value or b"" for value in values]
            for user, log in zip(np.frombuffer(users, "<u4").tolist(), as_seen, strict=True):
                own[user] = log
                whole.append(len(stored) + user)
            stored += own
        sizes = np.fromiter(map(len, stored), np.int64, len(stored))
        for user in np.flatnonzero(sizes % size != len(END)).tolist():  # gone, or of other workers
            stored[user], sizes[user] = END, len(END)
        gap = bytes(size - len(END))
        joined = gap.join([END, *stored, FRAME])  # a row before them, as `widened` has it
        ends = np.cumsum(sizes + len(gap)) + size
        begins = ends - sizes - len(gap)

        heads = np.ndarray((len(joined) - _HEAD.itemsize,), _HEAD, joined, strides=(1,))[begins]
        headed = (heads["form"] == size + NARROW) & (heads["magic"] == MAGIC)
        slots, rows, sources = (
            np.where(headed, heads[name].astype(np.int64), 0)
            for name in ("slots", "rows", "sources")
        )
        marks = HEAD_BYTES + 8 * sources
        first = (begins + -(-(marks + 2 * slots) // size) * size) // size - 1
        wide = self._row.widened(joined, first, slots, begins + marks)
        older = rows - sent.counts
        same = headed & (older >= 0)
        begin, seqs = first[same], wide["seq"]
        same[same] = (seqs[begin + rows[same] - 1] == sent.newest[same]) & (
            seqs[begin + older[same]] == sent.oldest[same]
        )
        same[whole] = True
        return _Stored(wide, first, rows, np.flatnonzero(~same))


def _unpacked(packed: bytes, base: int, counts: Ints) -> list[tuple[int, Ints]]:
    """User number and places of the script's last string; `base` users were in earlier chunks."""
    numbers = np.frombuffer(packed, "<i4").astype(np.int64)
    found: list[tuple[int, Ints]] = []
    at = 0
    while at < len(numbers):
        which = base + int(numbers[at])
        end = at + 1 + int(counts[which])
        found.append((which, numbers[at + 1 : end]))
        at = end
    return found
