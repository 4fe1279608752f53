"""What the benchmark feeds in: a backlog of shop events, and logs as a worker long at it has them.

Users are drawn by Zipf's law, 2 % of the events come up to 3 s late, one in a thousand is broken.
Everything follows from a seed.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import redis
from confluent_kafka import Producer

from models.encoding import SchemaEncoder
from models.simulate.shop import SimulationConfig, simulate
from models.simulate.style import STYLES
from scripts.peers import job
from scripts.yardstick.windows import SIZE, TTL_S, key_of, members
from stream_app.core.event import Event
from stream_app.core.record import Source
from stream_app.core.window import Rows, WindowPolicy, seq_of, source_tag
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows

PREFIX: Final = "shopsentry"  # of the keys, as by default
USERS: Final = 100_000
EXPONENT: Final = 0.9
LATE: Final = 0.02
LATE_MS: Final = 3000
BAD: Final = 0.001
PARTITIONS: Final = 4
HISTORY: Final = 64  # rows in every user's log; their offsets are those of unreadable records
BEGIN_MS: Final = 1_750_000_000_000
EVENTS_PER_MS: Final = 30
ITEMS: Final = 200_000
TYPES: Final = ("browse",) * 12 + ("click",) * 6 + ("cart", "purchase")


class History(NamedTuple):
    """Rows of one source, ascending by seq within each user."""

    source: Source
    users: list[str]  # of each row
    rows: Rows


def user_name(number: int) -> str:
    return f"u{number:09d}"


def partition_of(user: str, partitions: int = PARTITIONS) -> int:
    return zlib.crc32(user.encode()) % partitions


def random_records(
    count: int, seed: int = 1, events_per_ms: float = EVENTS_PER_MS
) -> Iterator[tuple[str, bytes]]:
    """User and value."""
    random = np.random.default_rng(seed)
    weights = np.cumsum(np.arange(1, USERS + 1) ** -EXPONENT)
    users = np.searchsorted(weights / weights[-1], random.random(count))
    items = (random.pareto(1.1, count) * 50).astype(int) % ITEMS
    late_ms = np.where(random.random(count) < LATE, random.integers(0, LATE_MS, count), 0)
    types = random.integers(0, len(TYPES), count)
    prices = np.round(random.lognormal(3, 1, count), 2)
    broken = random.random(count)
    encode = msgspec.json.Encoder().encode
    for at in range(count):
        user, item = user_name(int(users[at])), int(items[at])
        event: dict[str, Any] = {
            "event_id": f"{seed:04x}{at:012x}{item:08x}",
            "user_id": user,
            "type": TYPES[types[at]],
            "item_id": f"item-{item:08d}",
            "category_id": f"cat-{item % 997:04d}",
            "event_time": BEGIN_MS + int(at / events_per_ms) - int(late_ms[at]),
            "position": item % 40,
            "price": float(prices[at]),
            "session_id": f"s{users[at] * 7:010d}",
        }
        if broken[at] < BAD / 2:
            yield user, b'{"event_id": "broken'
            continue
        if broken[at] < BAD:
            event["type"] = "nonsense"
        yield user, encode(event)


class Shop:
    """A simulated day for the model: scores and windows are as in earnest, unlike random events'.

    The first `before` events are in Redis when a worker starts, the others in the topic.
    """

    def __init__(self, before: int, count: int) -> None:
        config = SimulationConfig(
            seed=3,
            events=before + count,
            span_ms=24 * 3600 * 1000,
            style=STYLES["full"],
            attack_share=0.02,
            late_share=LATE,
        )
        told = [simulated.event for simulated in simulate(config)]
        self.before, self.after = told[:before], told[before:]

    def records(self) -> Iterator[tuple[str, bytes]]:
        """User and value."""
        encode = msgspec.json.Encoder().encode
        return ((str(event["user_id"]), encode(event)) for event in self.after)

    def history(self, encoder: SchemaEncoder, topic: str) -> Iterator[History]:
        """Its seqs are of another topic, so that no record's offset is below them."""
        events = msgspec.convert(self.before, list[Event])
        source, some = f"{topic}.before", 1024
        for partition in range(PARTITIONS):
            own = [event for event in events if partition_of(event.user_id) == partition]
            for begin in range(0, len(own), some):
                chunk = own[begin : begin + some]
                rows = encoder.encode(chunk)
                first = seq_of(source_tag(source), 1 + begin)
                rows["seq"] = np.arange(len(chunk), dtype=np.uint64) + np.uint64(first)
                yield History(Source(source, partition), [event.user_id for event in chunk], rows)


def fill(
    bootstrap: str,
    topic: str,
    records: Iterable[tuple[str, bytes]],
    partitions: int = PARTITIONS,
) -> int:
    """Write a backlog; returns how many records it has, the unreadable first ones included."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 20,
            "batch.num.messages": 2000,
        }
    )
    for partition in range(partitions):
        for _ in range(HISTORY):
            producer.produce(topic, b"not an event", b"nobody", partition=partition)
    producer.flush(60)  # before all else: the logs' rows have their offsets
    count = partitions * HISTORY
    for user, value in records:
        producer.produce(topic, value, user.encode(), partition=partition_of(user, partitions))
        count += 1
        if count % 1000 == 0:
            producer.poll(0)
    if unsent := producer.flush(60):
        raise RuntimeError(f"Kafka did not take {unsent} records")
    return count


def full_logs(encoder: SchemaEncoder, topic: str) -> Iterator[History]:
    """HISTORY rows for every user, a minute between two of them.

    Their seqs are those of the topic's unreadable first records.
    """
    random = np.random.default_rng(5)
    tag, some = source_tag(topic), 1024
    for partition in range(PARTITIONS):
        users = [u for u in map(user_name, range(USERS)) if partition_of(u) == partition]
        for begin in range(0, len(users), some):
            names = users[begin : begin + some]
            count = len(names) * HISTORY
            events = [
                Event(user_id="", type=TYPES[t], at_ms=0, item_id=f"item-{i:08d}", price=3.5)
                for t, i in zip(
                    random.integers(0, len(TYPES), count).tolist(),
                    random.integers(0, ITEMS, count).tolist(),
                    strict=True,
                )
            ]
            rows = encoder.encode(events)
            ages = np.tile(np.arange(HISTORY, 0, -1), len(names))
            rows["at_ms"] = BEGIN_MS - ages * 60_000
            rows["id"] = random.integers(0, 1 << 63, count, np.uint64)
            seqs = np.arange(HISTORY, dtype=np.uint64) + np.uint64(seq_of(tag, 1))
            rows["seq"] = np.tile(seqs, len(names))
            own = [name for name in names for _ in range(HISTORY)]
            yield History(Source(topic, partition), own, rows)


def remember(url: str, encoder: SchemaEncoder, history: Iterable[History]) -> None:
    """Put the rows into the logs, through the code that serves."""

    async def slide_all() -> None:
        with ThreadPoolExecutor(4) as executor:
            store = RedisWindows(
                connect(url), PREFIX, encoder.row, WindowPolicy(), executor=executor
            )
            for some in history:
                users = [name.encode() for name in some.users]
                await store.slide(some.source, users, some.rows, [])

    asyncio.run(slide_all())


def remember_simply(url: str, history: Iterable[History]) -> None:
    """Put the same rows into sorted sets, as the yardstick keeps them."""
    client = redis.Redis.from_url(url)
    for some in history:
        own: dict[str, list[int]] = {}
        for at, name in enumerate(some.users):
            own.setdefault(name, []).append(at)
        pipeline = client.pipeline(transaction=False)
        for name, rows in own.items():
            pipeline.zadd(key_of(name), members(some.rows[rows]))
            pipeline.zremrangebyrank(key_of(name), 0, -SIZE - 1)
            pipeline.expire(key_of(name), TTL_S)
        pipeline.execute()


def remember_packed(url: str, history: Iterable[History]) -> None:
    """Put the same rows into strings, as the peers keep them."""
    client = redis.Redis.from_url(url)
    for some in history:
        packed: dict[str, bytearray] = {}
        for name, row in zip(some.users, some.rows, strict=True):
            packed.setdefault(name, bytearray()).extend(row.tobytes())
        pipeline = client.pipeline(transaction=False)
        for name, log in packed.items():
            pipeline.set(job.key_of(name.encode()), bytes(log), ex=job.TTL_S)
        pipeline.execute()
