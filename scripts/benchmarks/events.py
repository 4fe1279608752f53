"""What the benchmark feeds in: a backlog of shop events, and logs as a worker long at it has them.

Users are drawn by Zipf's law, 2 % of the events come up to 3 s late, one in a thousand is broken.
Everything follows from a seed.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import numpy as np
import redis
from confluent_kafka import Producer

from models.encoding import SchemaEncoder
from scripts.yardstick.windows import key_of, members
from stream_app.core.event import Event
from stream_app.core.record import Source
from stream_app.core.window import Rows, WindowPolicy, seq_of, source_tag
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows

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


def user_name(number: int) -> str:
    return f"u{number:09d}"


def partition_of(user: str) -> int:
    return zlib.crc32(user.encode()) % PARTITIONS


def values(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """User and value of each record."""
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
            "event_time": BEGIN_MS + at // EVENTS_PER_MS - int(late_ms[at]),
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


def fill(bootstrap: str, topic: str, count: int) -> int:
    """Write the backlog; returns how many records it has, the unreadable first ones included."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 20,
            "batch.num.messages": 2000,
        }
    )
    for partition in range(PARTITIONS):
        for _ in range(HISTORY):
            producer.produce(topic, b"not an event", b"nobody", partition=partition)
    for at, (user, value) in enumerate(values(count)):
        producer.produce(topic, value, user.encode(), partition=partition_of(user))
        if at % 1000 == 0:
            producer.poll(0)
    if unsent := producer.flush(60):
        raise RuntimeError(f"Kafka did not take {unsent} records")
    return count + PARTITIONS * HISTORY


def histories(encoder: SchemaEncoder, topic: str) -> Iterator[tuple[int, list[str], Rows]]:
    """Partition, users and their rows, HISTORY a user, one user after another; some users a time.

    The seqs are those of the topic's first records, one minute lies between two events of a user.
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
            rows["seq"] = np.tile(np.arange(HISTORY) + seq_of(tag, 1), len(names)).astype(np.uint64)
            yield partition, names, rows


def remember(url: str, prefix: str, topic: str, encoder: SchemaEncoder) -> None:
    """Give every user a full log, through the code that serves."""

    async def slide_all() -> None:
        with ThreadPoolExecutor(4) as executor:
            policy = WindowPolicy()
            store = RedisWindows(connect(url), prefix, encoder.row, policy, executor=executor)
            for partition, names, rows in histories(encoder, topic):
                users = [name.encode() for name in names for _ in range(HISTORY)]
                await store.slide(Source(topic, partition), users, rows, [])

    asyncio.run(slide_all())


def remember_simply(url: str, topic: str, encoder: SchemaEncoder) -> None:
    """Give every user the same past as a sorted set, as the yardstick keeps it."""
    client = redis.Redis.from_url(url)
    for _, names, rows in histories(encoder, topic):
        pipeline = client.pipeline(transaction=False)
        for at, name in enumerate(names):
            own = rows[at * HISTORY : (at + 1) * HISTORY]
            pipeline.zadd(key_of(name), members(own))
            pipeline.expire(key_of(name), 25 * 3600)
        pipeline.execute()
