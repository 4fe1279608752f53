"""Stage 2: users' logs in Redis, slid by one script call for each 384 users of a partition.

    key    <prefix>:{<partition>}:w:<user>     the braces keep a partition on one shard
    value  the user's rows in a circle, of `capacity` slots; little endian
             head    bytes of a row, capacity, slot of the oldest row, MAGIC, rows, sources (2 bytes
                     each); the latest at_ms (8)
             newest  of each source: offset + 1 (6), tag (2)
             marks   2 bytes of the event id in each slot
             slots   the rows, in the order in which they were accepted
    key    <prefix>:{<partition>}:committed    newest committed seqs that anybody told

The script (windows.lua) repeats `core.window.accept`, and writes a log only with rows that it did
not have: redelivery, a batch that failed half-way, and a worker that lost its partition change
nothing. A log expires when its user was silent for a window's span and an hour.

Nearly always a row is plainly new. The front of a log tells as much, so the script writes it into
the oldest row's slot, and the log is read by an MGET right behind: between the two it can have
changed. Then its newest row is not the one that we sent, and the call is made again, which answers
with the logs as our rows saw them.

Rows are grouped and logs put together on the event loop, which is cheap; the call waits in a
thread. Chunks are called at the same time, so that one is read while Redis works on the next.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from io import BytesIO
from typing import Final

import numpy as np

from stream_app.core.record import Source
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, Logs, Rows, WindowPolicy, source_tag
from stream_app.edges.redis_client import Client, Script

GRACE_S: Final = 3600

HEAD_BYTES: Final = 20
_HEAD: Final = struct.Struct("<2xHH2xHH").unpack_from  # slots, that of the oldest, rows, sources


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
        chunk_users: int = 512,
    ) -> None:
        """`ttl_s`: seconds after which a silent user is forgotten; the span and an hour if None."""
        self._prefix = prefix
        self._row = row
        self._chunk_users = chunk_users
        if ttl_s is None:
            ttl_s = -(-policy.span_ms // 1000) + GRACE_S
        self._settings = (row.itemsize, policy.horizon, policy.lateness_ms, ttl_s)
        self._script: Script[list[bytes]] = Script(client, "windows.lua", executor)

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
        logs, lengths, odd = await self._call(
            source, names, _packed(rows, order), counts, committed
        )

        first = np.cumsum(lengths) - lengths
        own = np.cumsum(counts) - counts  # the first of a user's rows among the grouped ones
        grouped = np.arange(len(users)) + np.repeat(first + lengths - counts - own, counts)
        for which, places in odd:
            at = own[which]
            grouped[at : at + len(places)] = np.where(places < 0, places, places + first[which])
        place = np.empty(len(users), np.int64)
        place[order] = grouped
        return Logs(np.frombuffer(logs, self._row), first[user], place)

    async def _call(
        self,
        source: Source,
        names: Sequence[bytes],
        data: bytes,
        counts: Ints,
        committed: Sequence[int],
    ) -> tuple[bytes, Ints, list[tuple[int, Ints]]]:
        """The users' logs, rows of each, and places where not all rows were appended."""
        shard = f"{self._prefix}:{{{source.partition}}}:".encode()
        head, known = shard + b"w:", shard + b"committed"
        tag = source_tag(source.topic).to_bytes(2, "little")
        limits = b"".join(seq.to_bytes(8, "little") for seq in committed)
        size = self._row.itemsize
        ends = np.cumsum(counts) * size
        packed_counts = counts.astype("<u4").tobytes()
        chunks = []
        for begin in range(0, len(names), self._chunk_users):
            end = min(begin + self._chunk_users, len(names))
            keys = [head + name for name in names[begin:end]]
            own = ends[begin:end].tolist()
            args = (
                *self._settings,
                tag,
                limits,
                packed_counts[4 * begin : 4 * end],
                data[int(ends[begin - 1]) if begin else 0 : own[-1]],
            )
            chunks.append(([*keys, known], args, keys, [data[at - size : at] for at in own]))
        replies = await all_ended([self._script.and_read(*chunk[:3]) for chunk in chunks])

        logs, lengths = BytesIO(), list[int]()
        odd: list[tuple[int, Ints]] = []
        for chunk, reply in zip(chunks, replies, strict=True):
            at, users = logs.tell(), len(lengths)
            while not self._write(*reply, chunk[3], logs, lengths):
                logs.truncate(at)
                logs.seek(at)
                del lengths[users:]
                reply = await self._script.and_read(*chunk[:3])
            odd += _unpacked(reply[0][0], users, counts)
        return logs.getvalue(), np.array(lengths, np.int64), odd

    def _write(
        self,
        told: Sequence[bytes],
        values: Sequence[bytes | None],
        newest: Sequence[bytes],
        logs: BytesIO,
        lengths: list[int],
    ) -> bool:
        """Add a chunk's logs, the oldest row first, and how many rows each has. False if one was
        changed after the script: its newest row is not the last that we sent (`newest`).

        No view outlives its turn: Python's collector would look at each again and again.
        """
        size = self._row.itemsize
        as_seen = dict(zip(np.frombuffer(told[1], "<u4").tolist(), told[2:], strict=True))
        for user, value in enumerate(values):
            if user in as_seen:
                logs.write(as_seen[user])
                lengths.append(len(as_seen[user]) // size)
                continue
            if value is None:
                return False
            slots, start, rows, sources = _HEAD(value)
            base = HEAD_BYTES + 8 * sources + 2 * slots
            begin, end, stop = base + start * size, base + (start + rows) * size, len(value)
            last = end - size if end <= stop else end - size - slots * size
            if value[last : last + size] != newest[user]:
                return False
            view = memoryview(value)
            logs.write(view[begin:end])
            if end > stop:
                logs.write(view[base : base + end - stop])
            lengths.append(rows)
        return True


def _packed(rows: Rows, order: Ints) -> bytes:
    """The rows in this order, as bytes."""
    opaque = np.ascontiguousarray(rows).view(f"V{rows.dtype.itemsize}")
    return opaque.take(order).tobytes()


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
