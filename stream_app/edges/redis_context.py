"""Stage 1b: what the site saw of things, in Redis: read before a group, joined behind it.

    key    <prefix>:{c<shard>}:<thing>        a thing is on one of SHARDS shards
    value  its crowd, visits of 8 bytes; gone when nobody came for a day and an hour
    key    <prefix>:{<partition>}:n:<epoch>   who was active in it, user and first bucket, 8 bytes

From the crowds before a group `core.context.ContextBook` tells each event. Once the rows are stored
the script (crowds.lua) takes the union of a thing's crowd and the group's visits, as
`core.crowd.join` does: what comes again changes nothing. A union that were taken before could push
out what an event saw, and a group that comes again, as its worker died meanwhile, would be told
otherwise.

Tables of accounts belong to a partition, so they are read once, kept, and appended to. They are
read again when the partition begins anew, if somebody else appended to one meanwhile, and if what
was appended may not have been written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.core import accounts, crowd
from stream_app.core.accounts import Accounts, Known, Table
from stream_app.core.context import (
    ContextBook,
    ContextPlan,
    Visits,
    ages_ms,
    numbers_of,
    visits_of,
)
from stream_app.core.crowd import CAPACITY, KEPT, Crowds
from stream_app.core.ports import Told, no_more
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, Rows
from stream_app.edges.redis_client import Client, Script, values_of

SHARDS: Final = 4
CROWD_TTL_S: Final = 25 * 3600
_AT_ONCE: Final = 1024  # crowds that one command reads: 256 bytes each
TABLE_TTL_S: Final = 61 * 24 * 3600  # its epoch and the next one


class _Shard(NamedTuple):
    """What a group did to the things of one shard: of each how many visits, the newest first."""

    keys: list[bytes]
    things: NDArray[np.uint64]
    counts: Ints
    visits: Crowds  # of the first thing, of the second, ...


def _shards(prefix: str, visits: Visits) -> list[_Shard]:
    event, kind = np.nonzero(visits.things)
    thing, visit = visits.things[event, kind], visits.visit[event]
    order = np.lexsort((~visit, thing))
    thing, visit = thing[order], visit[order]
    shard = thing % np.uint64(SHARDS)
    found = []
    for number in np.unique(shard).tolist():
        things, counts = np.unique(thing[shard == number], return_counts=True)
        head, names = f"{prefix}:{{c{number}}}:".encode(), things.tobytes()
        keys = [head + names[at : at + 8] for at in range(0, len(names), 8)]
        found.append(_Shard(keys, things, counts, visit[shard == number]))
    return found


class RedisContext:
    """A `ContextStore`."""

    def __init__(
        self, client: Client, prefix: str, plan: ContextPlan, *, executor: Executor
    ) -> None:
        self._prefix = prefix
        self._plan = plan
        self._accounts = Accounts()
        self._lengths: dict[Table, int] = {}  # bytes in Redis of the tables that we have
        self._unwritten: set[Table] = set()  # those that have more here than in Redis
        self._client, self._executor = client, executor
        self._join: Script[int] = Script(client, executor, "crowds.lua")
        self._append: Script[int] = Script(client, executor, "accounts.lua")
        self._read: Script[bytes] = Script(client, executor, "table.lua")

    async def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Told:
        """See `ports.ContextStore`. Raises StoreUnavailable, Misconfigured."""
        if not self._plan or not len(rows):
            return Told(None, no_more)
        numbers = numbers_of(users)
        seen = crowd.buckets(rows["at_ms"]).tolist()
        needed = accounts.tables(partition, seen)
        for table in self._unwritten.intersection(needed):
            self._forget(table)
        while unknown := [t for t in needed if t not in self._lengths]:
            await asyncio.gather(*(self._load(t) for t in unknown))
        first, fresh = self._accounts.first_seen(partition, numbers.tolist(), seen)
        self._unwritten.update(fresh)
        visits = visits_of(self._plan, rows, numbers, first)
        shards = _shards(self._prefix, visits)
        known = await all_ended([self._crowds(shard) for shard in shards])
        things = [thing for shard in shards for thing in shard.things.tolist()]
        crowds = np.frombuffer(b"".join(known), ">u8").astype(np.uint64).reshape(-1, CAPACITY)
        ContextBook(self._plan, things, crowds).tell(visits, rows, goes_on=False)

        async def join() -> None:
            await all_ended([*map(self._join_shard, shards), self._write(fresh)])

        return Told(ages_ms(rows, first), join)

    def begins(self, partition: int) -> None:
        """The partition is ours (again): read its tables anew, others may have written to them."""
        for table in [t for t in self._lengths if t[0] == partition]:
            self._forget(table)

    async def _crowds(self, shard: _Shard) -> bytes:
        """As they are, CAPACITY visits of each thing."""
        found = await values_of(self._client, self._executor, shard.keys, _AT_ONCE)
        full = CAPACITY * 8
        return b"".join([(packed or b"").rjust(full, b"\0") for packed in found])

    async def _join_shard(self, shard: _Shard) -> None:
        counts, visits = shard.counts.astype("<u4").tobytes(), shard.visits.astype(">u8").tobytes()
        await self._join(shard.keys, (KEPT, CROWD_TTL_S, counts, visits))

    async def _load(self, table: Table) -> None:
        packed = await self._read([self._key(table)], ())
        pairs = np.frombuffer(packed, "<u4").reshape(-1, 2)
        self._accounts.learn(table, [(int(user), int(first)) for user, first in pairs])
        self._lengths[table] = len(packed)

    async def _write(self, fresh: Mapping[Table, Sequence[Known]]) -> None:
        for table, known in fresh.items():
            packed = np.array(known, "<u4").tobytes()
            before = await self._append([self._key(table)], (TABLE_TTL_S, packed))
            if before == self._lengths.get(table):
                self._lengths[table] = before + len(packed)
                self._unwritten.discard(table)
            else:
                self._forget(table)

    def _forget(self, table: Table) -> None:
        self._lengths.pop(table, None)
        self._unwritten.discard(table)
        self._accounts.forget(table)

    def _key(self, table: Table) -> bytes:
        partition, epoch = table
        return f"{self._prefix}:{{{partition}}}:n:{epoch}".encode()
