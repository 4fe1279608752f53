"""Stage 1b: what the site saw of things, in Redis, by one round trip a group of records.

    key    <prefix>:{c<shard>}:<thing>        a thing is on one of SHARDS shards
    value  its crowd, visits of 8 bytes; gone when nobody came for a day and an hour
    key    <prefix>:{<partition>}:n:<epoch>   who was active in it, user and first bucket, 8 bytes

The script (crowds.lua) takes the union of a thing's crowd and a group's visits, as
`core.crowd.join` does: what comes again changes nothing. It answers with the crowds before the
group, from which `core.context.ContextBook` tells each event.

Tables of accounts belong to a partition, so they are read once, kept, and appended to. They are
read again when the partition begins anew, if somebody else appended to one meanwhile, and if what
was appended may not have been written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

import numpy as np

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
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, Rows
from stream_app.edges.redis_client import Client, Script

SHARDS: Final = 4
CROWD_TTL_S: Final = 25 * 3600
TABLE_TTL_S: Final = 61 * 24 * 3600  # its epoch and the next one


class RedisContext:
    """A `ContextStore`."""

    def __init__(
        self, client: Client, prefix: str, plan: ContextPlan, *, executor: Executor
    ) -> None:
        self._prefix = prefix
        self._plan = plan
        self._accounts = Accounts()
        self._lengths: dict[Table, int] = {}  # bytes in Redis of the tables that we have
        self._join: Script[list[bytes]] = Script(client, executor, "crowds.lua")
        self._append: Script[int] = Script(client, executor, "accounts.lua")
        self._read: Script[bytes] = Script(client, executor, "table.lua")

    async def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Ints | None:
        """See `ports.ContextStore`. Raises StoreUnavailable, Misconfigured."""
        if not self._plan or not len(rows):
            return None
        numbers = numbers_of(users)
        seen = crowd.buckets(rows["at_ms"]).tolist()
        needed = accounts.tables(partition, seen)
        while unknown := [t for t in needed if t not in self._lengths]:
            await asyncio.gather(*(self._load(t) for t in unknown))
        first, fresh = self._accounts.first_seen(partition, numbers.tolist(), seen)
        visits = visits_of(self._plan, rows, numbers, first)
        try:
            *known, _ = await all_ended([*self._joins(visits), self._write(fresh)])
        except BaseException:
            for table in needed:
                self._forget(table)
            raise
        things = [thing for some, _ in known for thing in some]
        packed = b"".join(crowds for _, crowds in known)
        crowds = np.frombuffer(packed, ">u8").astype(np.uint64).reshape(-1, CAPACITY)
        ContextBook(self._plan, things, crowds).tell(visits, rows, goes_on=False)
        return ages_ms(rows, first)

    def begins(self, partition: int) -> None:
        """The partition is ours (again): read its tables anew, others may have written to them."""
        for table in [t for t in self._lengths if t[0] == partition]:
            self._forget(table)

    def _joins(self, visits: Visits) -> list[Awaitable[tuple[list[int], bytes]]]:
        """One call for each shard."""
        event, kind = np.nonzero(visits.things)
        thing, visit = visits.things[event, kind], visits.visit[event]
        shard = thing % np.uint64(SHARDS)
        return [
            self._join_shard(which, thing[shard == which], visit[shard == which])
            for which in np.unique(shard).tolist()
        ]

    async def _join_shard(
        self, shard: int, thing: Crowds, visit: Crowds
    ) -> tuple[list[int], bytes]:
        """The things, and their crowds as they were before, CAPACITY visits each."""
        order = np.lexsort((~visit, thing))  # of each thing the newest visit first
        things, counts = np.unique(thing, return_counts=True)
        head, names = f"{self._prefix}:{{c{shard}}}:".encode(), things.tobytes()
        old = await self._join(
            [head + names[at : at + 8] for at in range(0, len(names), 8)],
            (
                KEPT,
                CROWD_TTL_S,
                counts.astype("<u4").tobytes(),
                visit[order].astype(">u8").tobytes(),
            ),
        )
        full = CAPACITY * 8
        return things.tolist(), b"".join([packed.rjust(full, b"\0") for packed in old])

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
            else:
                self._forget(table)

    def _forget(self, table: Table) -> None:
        self._lengths.pop(table, None)
        self._accounts.forget(table)

    def _key(self, table: Table) -> bytes:
        partition, epoch = table
        return f"{self._prefix}:{{{partition}}}:n:{epoch}".encode()
