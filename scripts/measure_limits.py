"""What a million users' windows take in a Redis, and whether each will go away by itself.

    .venv/bin/python -m scripts.measure_limits --users 1000000 --events 1

Starts a Redis of its own and fills it through the worker's own store.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from msgspec import Struct
from redis import Redis

from models.bundle import load
from models.encoding import SchemaEncoder
from stream_app.core.record import Source
from stream_app.core.window import WindowPolicy
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows
from stream_app.settings import ScorerSettings
from tests.servers import RedisServer

BATCH = 4096  # events of one call, twice what a worker's groups have at most
SOURCE = Source("events", 0)


class Found(Struct, frozen=True):
    """What Redis holds after it was filled."""

    users: int
    bytes_a_user: float  # of used_memory, with all overhead of Redis
    keys: int
    without_end: int  # of the keys looked at, those that never expire
    longest_ttl_s: int
    took_s: float


def shipped_row() -> np.dtype[np.void]:
    """What the shipped model keeps of an event."""
    return SchemaEncoder(load(ScorerSettings().bundle, "cpu").schema).row


async def fill(client: Redis, row: np.dtype[np.void], users: int, events: int, look: int) -> Found:
    """`events` of each user, round after round; then `look` keys are asked for their end."""
    before = client.info("memory")["used_memory"]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        windows = RedisWindows(client, "limits", row, WindowPolicy(), executor=pool)
        seq = 0
        for _ in range(events):
            for first in range(0, users, BATCH):
                names = [b"user-%09d" % n for n in range(first, min(first + BATCH, users))]
                rows = np.zeros(len(names), row)
                rows["seq"] = rows["at_ms"] = rows["id"] = seq + 1 + np.arange(len(names))
                seq += len(names)
                await windows.slide(SOURCE, names, rows, [])
    took_s = time.monotonic() - began
    grown = client.info("memory")["used_memory"] - before
    ends = [client.ttl(key) for key in islice(client.scan_iter(count=1000), look)]
    return Found(
        users,
        grown / users,
        client.dbsize(),
        sum(end < 0 for end in ends),
        max(ends),
        took_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=1, help="of each user")
    chosen = parser.parse_args()
    row = shipped_row()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        connect(server.url, timeout_s=30) as client,
    ):
        found = asyncio.run(fill(client, row, chosen.users, chosen.events, look=10_000))
    print(
        f"{found.users:,} users with {chosen.events} events of {row.itemsize} bytes each: "
        f"{found.bytes_a_user:.0f} bytes a user in {found.keys:,} keys, {found.took_s:.0f} s; "
        f"{found.without_end} of 10,000 keys never expire, the others in {found.longest_ttl_s} s "
        "or less"
    )


if __name__ == "__main__":
    main()
