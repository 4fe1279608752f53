"""What a schema's counters cost a worker: time of the stage alone, and Redis' memory.

    .venv/bin/python -m scripts.measure_counters                # 200,000 events, 5,000 users
    .venv/bin/python -m scripts.measure_counters --at-hand 500  # most of it has to be read back

The days of `scripts.measure_context`: each item once, the others by Zipf's law, users by chance.
Against counting in this process alone, as for a file, of the same rows; both must tell the same.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct
from redis import Redis

from models import schema as schemas
from models.counters.counting import Counting
from models.counters.kept import KeptCounting
from models.schema import Schema
from scripts.measure_context import Day, groups
from stream_app.core.record import Source
from stream_app.core.window import seq_of, source_tag
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_state import RedisState
from tests.servers import RedisServer

SOURCE = Source("events", 0)
KINDS = {"u": "user", "i": "item", "g": "group"}


class Measured(Struct, kw_only=True):
    events: int = 0
    alone_us: float = 0.0  # CPU an event
    kept_us: float = 0.0  # on the clock
    kept_cpu_us: float = 0.0
    redis_us: float = 0.0  # in its commands
    bytes: dict[str, float] = {}  # of one, by kind, keys included
    most: dict[str, int] = {}


async def measure(client: Redis, schema: Schema, day: Day, at_hand: int) -> Measured:
    tag, found = source_tag(SOURCE.topic), Measured()
    alone = Counting(schema)
    with ThreadPoolExecutor(4) as pool:
        store = RedisState(client, "shopsentry", executor=pool)
        kept = KeptCounting(schema, store, at_hand)
        for _, users, rows in groups(day, schema.row):
            rows["seq"] = [seq_of(tag, found.events + at + 1) for at in range(len(rows))]
            expected, committed = rows.copy(), [seq_of(tag, max(0, found.events - len(rows)))]
            began = time.process_time()
            alone.fill(users, expected)
            found.alone_us += time.process_time() - began
            clock, began = time.perf_counter(), time.process_time()
            await kept.fill(SOURCE, users, rows, committed)
            found.kept_us += time.perf_counter() - clock
            found.kept_cpu_us += time.process_time() - began
            found.events += len(rows)
            if rows.tobytes() != expected.tobytes():
                raise RuntimeError("what is kept counts otherwise")
    for name in ("alone_us", "kept_us", "kept_cpu_us"):
        setattr(found, name, getattr(found, name) * 1e6 / found.events)
    spent = client.info("commandstats")
    used = sum(command["usec"] for name, command in spent.items() if name in RUN)
    found.redis_us = used / found.events
    _look(client, found)
    return found


RUN = ("cmdstat_evalsha", "cmdstat_mget")


def _look(client: Redis, found: Measured, most: int = 5000) -> None:
    sizes: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for key in client.scan_iter("*", count=1000):
        kind = key[-9:-8].decode("latin-1")
        if len(key.split(b":", 4)[-1]) == 9 and len(sizes.get(kind, range(most))) < most:
            sizes[kind].append(int(client.memory_usage(key) or 0))
    found.bytes = {KINDS[kind]: sum(some) / len(some) for kind, some in sizes.items() if some}
    found.most = {KINDS[kind]: max(some) for kind, some in sizes.items() if some}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of counters in the stream.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--at-hand", type=int, default=50_000, help="users, items kept in memory")
    given = parser.parse_args()
    day = Day(items=given.items, events=given.events, users=given.users, partitions=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        connect(server.url, timeout_s=60) as client,
    ):
        found = asyncio.run(measure(client, schemas.load("shop-counters"), day, given.at_hand))
    print(
        f"{found.events:,} events: alone {found.alone_us:.0f} us of CPU an event; kept "
        f"{found.kept_cpu_us:.0f}, {found.kept_us:.0f} on the clock, {1e6 / found.kept_us:,.0f} "
        f"events/s, and {found.redis_us:.1f} of Redis"
    )
    for kind, size in found.bytes.items():
        print(f"a {kind}: {size:,.0f} bytes of Redis, {found.most[kind]:,} at most")


if __name__ == "__main__":
    main()
