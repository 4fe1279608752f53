"""What the site's side of things costs in Redis, by the store that the worker has.

    .venv/bin/python -m scripts.measure_context                                   # 1,000,000 items
    .venv/bin/python -m scripts.measure_context --items 20000 --events 2000000    # full crowds

A day of events, spread over it evenly: each item once, the others by Zipf's law; users by chance.
Bytes are all that Redis uses with it, the tables of accounts too, less what it used when empty.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from msgspec import Struct
from redis import Redis

from models import schema as schemas
from stream_app.core.context import ContextPlan
from stream_app.core.window import Rows
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_context import RedisContext
from tests.servers import RedisServer

BEGIN_MS = 1_750_000_000_000
DAY_MS = 24 * 3600 * 1000
GROUP = 2048
EXPONENT = 0.9


class Day(Struct, frozen=True, kw_only=True):
    items: int
    events: int
    users: int
    partitions: int = 4
    seed: int = 1


class Measured(Struct, frozen=True, kw_only=True):
    items: int
    users: int
    keys: int
    bytes: int
    without_end: int  # keys, of those looked at
    longest_ttl_s: int

    @property
    def bytes_an_item(self) -> float:
        return self.bytes / self.items


def groups(day: Day, row: np.dtype[np.void]) -> Iterator[tuple[int, list[bytes], Rows]]:
    """Partition, users and rows of each group, in the order of time."""
    dice = np.random.default_rng(day.seed)
    weight = np.cumsum(np.arange(1, day.items + 1) ** -EXPONENT)
    more = np.searchsorted(weight / weight[-1], dice.random(max(0, day.events - day.items)))
    item = dice.permutation(np.concatenate([np.arange(day.items), more])) + 1
    user = dice.integers(0, day.users, len(item))
    for begin in range(0, len(item), GROUP * day.partitions):
        end = min(begin + GROUP * day.partitions, len(item))
        for partition in range(day.partitions):
            own = np.arange(begin, end)[user[begin:end] % day.partitions == partition]
            rows = np.zeros(len(own), row)
            rows["at_ms"] = BEGIN_MS + own * DAY_MS // len(item)
            rows["item"] = item[own]
            rows["type"] = dice.integers(1, 7, len(own))
            yield partition, [b"user-%d" % n for n in user[own]], rows


async def measure(
    client: Redis, day: Day, row: np.dtype[np.void], plan: ContextPlan, look: int = 10_000
) -> Measured:
    """`look`: keys whose end is asked for."""
    empty = _used(client)
    with ThreadPoolExecutor(4) as pool:
        store = RedisContext(client, "shopsentry", plan, executor=pool)
        for partition, users, rows in groups(day, row):
            await (await store.fill(partition, users, rows)).join()
    keys = [key for key, _ in zip(client.scan_iter(count=1000), range(look), strict=False)]
    ttl = [client.ttl(key) for key in keys]
    return Measured(
        items=day.items,
        users=day.users,
        keys=int(client.dbsize()),
        bytes=_used(client) - empty,
        without_end=sum(seconds < 0 for seconds in ttl),
        longest_ttl_s=max(ttl, default=0),
    )


def _used(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Redis bytes of the site's side.")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    given = parser.parse_args()
    schema = schemas.load("shop-context")
    day = Day(items=given.items, events=given.events, users=given.users)
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        connect(server.url, timeout_s=60) as client,
    ):
        found = asyncio.run(measure(client, day, schema.row, schema.context))
    print(
        f"{found.items:,} items, {day.events:,} events of {found.users:,} users in 24 h: "
        f"{found.bytes / 1e6:,.0f} MB, {found.bytes_an_item:.0f} bytes an item, "
        f"{found.keys:,} keys; of those looked at {found.without_end} without an end, "
        f"the longest {found.longest_ttl_s / 3600:.0f} h"
    )


if __name__ == "__main__":
    main()
