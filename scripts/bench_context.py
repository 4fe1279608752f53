"""What the site's side costs the stream: the pipeline with and without it, in turn, on one Redis.

    .venv/bin/python -m scripts.bench_context        # --full, --rounds, --groups
    .venv/bin/python -m scripts.bench_context --schema shop-counters --groups 4    # and counters

CPU of this process and of Redis, an event, from records to messages in groups of 2,048, a scorer
that costs nothing; users' logs are short unless `--full`. Kafka is left out, on both sides alike.
CPU and no rates, so that a busy machine blurs the figures less. Rows of `shop-context` have 56
bytes, those of `shop` 40: that difference is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
from redis import Redis

from models.counters.kept import KeptCounting
from models.schema import load
from scripts.benchmarks import events
from scripts.benchmarks.scorers import free_encoder, free_scorer
from stream_app.core.alerting import AlertPolicy
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.record import Source, StoredRecord
from stream_app.core.window import WindowPolicy, seq_of, source_tag
from stream_app.edges.memory import MemoryOutbox
from stream_app.edges.redis_alerts import RedisAlertLog
from stream_app.edges.redis_campaigns import RedisCampaigns
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_context import RedisContext
from stream_app.edges.redis_state import RedisState
from stream_app.edges.redis_windows import RedisWindows
from stream_app.pipeline import Pipeline, Policies
from tests.servers import RedisServer

GROUP = 2048
PLAIN = "shop"
TOPIC = "bench.random"


class Cost(NamedTuple):
    """CPU microseconds an event."""

    worker: float
    redis: float

    @property
    def both(self) -> float:
        return self.worker + self.redis


class Lane:
    """One pipeline, its own keys, and how far it has come."""

    def __init__(self, schema: str, client: Redis, pool: ThreadPoolExecutor) -> None:
        encoder = free_encoder(schema)
        limits = Policies(WindowPolicy(), AlertPolicy())
        asked, prefix = encoder.schema.context, schema
        self.encoder, self.prefix = encoder, prefix
        self._pipeline = Pipeline(
            encoder,
            RedisWindows(client, prefix, encoder.row, limits.window, executor=pool),
            free_scorer(encoder),
            RedisAlertLog(client, prefix, limits.alerts, executor=pool),
            MemoryOutbox(),
            limits,
            context=RedisContext(client, prefix, asked, executor=pool) if asked else None,
            campaigns=RedisCampaigns(client, prefix, CampaignPolicy(), executor=pool),
            counters=KeptCounting(encoder.schema, RedisState(client, prefix, executor=pool))
            if encoder.schema.counters
            else None,
        )

    async def take(self, group: Sequence[StoredRecord]) -> None:
        source = Source(TOPIC, group[0].partition)
        committed = [seq_of(source_tag(TOPIC), group[0].offset)]
        seen = await self._pipeline.read(source, group, committed)
        self._pipeline.compose(await self._pipeline.decide(seen))


def groups(count: int, partitions: int) -> list[list[StoredRecord]]:
    """Of all partitions in turn."""
    parts: list[list[StoredRecord]] = [[] for _ in range(partitions)]
    for user, value in events.random_records(count * GROUP):
        part = events.partition_of(user, partitions)
        parts[part].append(
            StoredRecord(
                topic=TOPIC,
                partition=part,
                offset=events.HISTORY + len(parts[part]),
                timestamp=1 << 46,
                key=user.encode(),
                value=value,
            )
        )
    cut = [
        (begin, part[begin : begin + GROUP])
        for part in parts
        for begin in range(0, len(part) - GROUP + 1, GROUP)
    ]
    return [group for _, group in sorted(cut, key=lambda one: one[0])]


async def cost(lane: Lane, some: Sequence[list[StoredRecord]], redis: psutil.Process) -> Cost:
    begun, redis_begun = time.process_time(), sum(redis.cpu_times()[:2])
    for group in some:
        await lane.take(group)
    took, redis_took = time.process_time() - begun, sum(redis.cpu_times()[:2]) - redis_begun
    each = 1e6 / (len(some) * GROUP)
    return Cost(took * each, redis_took * each)


async def bench(
    url: str, pid: int, schema: str, rounds: int, many: int, full: bool
) -> list[tuple[Cost, Cost]]:
    partitions = 1 if load(schema).counters else events.PARTITIONS
    made, redis, found = groups((rounds + 1) * many + 8, partitions), psutil.Process(pid), []
    with ThreadPoolExecutor(4) as pool, connect(url, timeout_s=60) as client:
        lanes = [Lane(name, client, pool) for name in (PLAIN, schema)]
        for lane in lanes if full else ():
            store = RedisWindows(
                client, lane.prefix, lane.encoder.row, WindowPolicy(), executor=pool
            )
            for history in events.full_logs(lane.encoder, TOPIC):
                names = [name.encode() for name in history.users]
                await store.slide(history.source, names, history.rows, ())
        for number in range(rounds + 1):
            some = made[number * many : (number + 1) * many]
            plain, context = [await cost(lane, some, redis) for lane in lanes]
            if number:  # the first one warms up
                found.append((plain, context))
                print(
                    f"round {number}: without {plain.worker:.1f} + {plain.redis:.1f} us, "
                    f"with {context.worker:.1f} + {context.redis:.1f} us",
                    flush=True,
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of the site's side in the stream.")
    parser.add_argument("--schema", default="shop-context", help=f"compared with {PLAIN}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=24, help="of 2,048 records, a round")
    parser.add_argument("--full", action="store_true", help="begin with full logs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        assert server.pid is not None
        found = asyncio.run(
            bench(server.url, server.pid, given.schema, given.rounds, given.groups, given.full)
        )
    more = [context.both - plain.both for plain, context in found]
    share = [context.both / plain.both - 1 for plain, context in found]
    print(
        f"{given.schema}: {statistics.median(more):.1f} ({min(more):.1f}-{max(more):.1f}) us of "
        f"CPU more an event, {statistics.median(share):.0%} ({min(share):.0%}-{max(share):.0%})"
    )


if __name__ == "__main__":
    main()
