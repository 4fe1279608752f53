"""How the cost of an event grows: with users, window length, records in a group, a hot user.

    .venv/bin/python -m scripts.measure_growth [--rounds 5] [--events 16384]

CPU microseconds an event of this process and of Redis, from records to messages, a scorer that
costs nothing, full logs of 40-byte rows; Kafka is left out. One thing grows at a time, all others
stay as marked; all settings take turns within a round. Of each thing the law: cost ~ x^power for
users and length, a + b / records for groups, as each group costs something by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import psutil
from redis import Redis

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
from stream_app.edges.redis_windows import RedisWindows
from stream_app.pipeline import Pipeline, Policies
from tests.servers import RedisServer

SOURCE: Final = Source("growth", 0)
TTL_S: Final = 90_000


class Setting(NamedTuple):
    """What a lane has much or little of."""

    users: int = 20_000
    length: int = 64  # events in a window
    group: int = 2048  # records
    hot: float = 0.0  # share of one user


GROWS: Final[dict[str, Sequence[float]]] = {
    "users": (1_000, 20_000, 100_000, 1_000_000),
    "length": (16, 32, 64, 128, 256),
    "group": (16, 64, 256, 1024, 2048),
    "hot": (0.0, 0.25, 0.5, 0.9),
}


class Cost(NamedTuple):
    """CPU microseconds an event."""

    worker: float
    redis: float


class Lane:
    """One pipeline of a setting, with its own keys, and how far it has come."""

    def __init__(self, setting: Setting, client: Redis, pool: ThreadPoolExecutor) -> None:
        encoder, policy = free_encoder(), WindowPolicy(size=setting.length)
        limits = Policies(policy, AlertPolicy())
        self.setting, self._client, self._encoder = setting, client, encoder
        self._prefix = "-".join(map(str, setting))
        self._rows = policy.horizon
        self._records = records_of(setting)
        self._offset = self._rows
        self._windows = RedisWindows(client, self._prefix, encoder.row, policy, executor=pool)
        self._pipeline = Pipeline(
            encoder,
            self._windows,
            free_scorer(encoder),
            RedisAlertLog(client, self._prefix, limits.alerts, executor=pool),
            MemoryOutbox(),
            limits,
            campaigns=RedisCampaigns(client, self._prefix, CampaignPolicy(), executor=pool),
        )

    async def fill(self) -> None:
        """A full log for each user: that of a first one, copied."""
        rows = np.zeros(self._rows, self._encoder.row)
        rows["at_ms"] = events.BEGIN_MS - np.arange(self._rows, 0, -1) * 60_000
        rows["seq"] = np.arange(self._rows, dtype=np.uint64) + np.uint64(
            seq_of(source_tag(SOURCE.topic), 1)
        )
        rows["type"] = 1
        rows["id"] = np.random.default_rng(0).integers(0, 1 << 63, self._rows, np.uint64)
        first = events.user_name(0)
        await self._windows.slide(SOURCE, [first.encode()] * self._rows, rows, ())
        log = self._client.get(self._key(first))
        assert isinstance(log, bytes)
        for begin in range(0, self.setting.users + 1, 5000):
            pipe = self._client.pipeline(transaction=False)
            for number in range(begin, min(begin + 5000, self.setting.users + 1)):
                pipe.set(self._key(events.user_name(number)), log, ex=TTL_S)
            pipe.execute()

    def bytes_a_user(self) -> float:
        """Redis memory of a user's log, key included; the median of 200."""
        asked = [self._key(events.user_name(n)) for n in range(min(200, self.setting.users))]
        return statistics.median(int(self._client.memory_usage(key) or 0) for key in asked)

    async def take(self, count: int, redis: psutil.Process) -> Cost:
        size = self.setting.group
        made = [
            StoredRecord(
                topic=SOURCE.topic,
                partition=0,
                offset=self._offset + at,
                timestamp=1 << 46,
                key=user.encode(),
                value=value,
            )
            for at, (user, value) in zip(range(count), self._records, strict=False)
        ]
        begun, redis_begun = time.process_time(), sum(redis.cpu_times()[:2])
        for begin in range(0, count, size):
            group = made[begin : begin + size]
            committed = [seq_of(source_tag(SOURCE.topic), group[0].offset)]
            seen = await self._pipeline.read(SOURCE, group, committed)
            self._pipeline.compose(await self._pipeline.decide(seen))
        took, redis_took = time.process_time() - begun, sum(redis.cpu_times()[:2]) - redis_begun
        self._offset += count
        return Cost(took / count * 1e6, redis_took / count * 1e6)

    def _key(self, user: str) -> str:
        return f"{self._prefix}:{{{SOURCE.partition}}}:w:{user}"


def records_of(setting: Setting) -> Iterator[tuple[str, bytes]]:
    """Users and values without end; names are of one length, so the values are, too."""
    draw, hot = random.Random(1), events.user_name(setting.users)
    seed = 0
    while True:
        seed += 1
        for user, value in events.random_records(100_000, seed):
            mine = hot if draw.random() < setting.hot else None
            mine = mine or events.user_name(draw.randrange(setting.users))
            yield mine, value.replace(user.encode(), mine.encode())


async def measured(
    lanes: Sequence[Lane], redis: psutil.Process, rounds: int, count: int
) -> dict[Setting, list[Cost]]:
    found: dict[Setting, list[Cost]] = {lane.setting: [] for lane in lanes}
    for number in range(rounds + 1):
        for lane in lanes:
            cost = await lane.take(count, redis)
            if number:  # the first one warms up
                found[lane.setting].append(cost)
        print(f"round {number} of {rounds}", flush=True)
    return found


def law(what: str, values: Sequence[float], costs: Sequence[float]) -> str:
    if what == "group":
        each, whole = np.polyfit(1 / np.array(values), costs, 1)
        return f"{whole:.1f} + {each:.0f} / records"
    if min(values) <= 0:
        slope, start = np.polyfit(values, costs, 1)
        return f"{start:.1f} {slope:+.1f} x share"
    power, _ = np.polyfit(np.log(values), np.log(costs), 1)
    return f"x^{power:.2f}"


def spread(some: Sequence[float]) -> str:
    return f"{statistics.median(some):.1f} ({min(some):.1f}-{max(some):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=16_384, help="of a setting and round")
    parser.add_argument("--most-users", type=int, default=1_000_000)
    given = parser.parse_args()
    of = {
        what: [Setting(**{**Setting()._asdict(), what: value}) for value in values]
        for what, values in GROWS.items()
    }
    settings = [s for some in of.values() for s in some if s.users <= given.most_users]
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        ThreadPoolExecutor(4) as pool,
        connect(server.url, timeout_s=60) as client,
    ):
        lanes = [Lane(setting, client, pool) for setting in dict.fromkeys(settings)]
        for lane in lanes:
            asyncio.run(lane.fill())
        assert server.pid is not None
        redis = psutil.Process(server.pid)
        found = asyncio.run(measured(lanes, redis, given.rounds, given.events))
        memory = {lane.setting: lane.bytes_a_user() for lane in lanes}
    print("| | worker, us | Redis, us | bytes a user | law of both |\n| --- |" + " --- |" * 4)
    for what, some in of.items():
        here = [s for s in some if s in found]
        sums = [statistics.median(sum(cost) for cost in found[s]) for s in here]
        told = law(what, [float(getattr(s, what)) for s in here], sums)
        for setting in here:
            costs = found[setting]
            mark = " *" if setting == Setting() else ""
            print(
                f"| {what} {getattr(setting, what):,}{mark} | {spread([c.worker for c in costs])} "
                f"| {spread([c.redis for c in costs])} | {memory[setting]:,.0f} | {told} |"
            )


if __name__ == "__main__":
    main()
