"""Windows in Redis by one script call, against two ways that one would write first.

    .venv/bin/python scripts/bench_windows.py [--json] [--users 100000] [--rounds 15]

Prints events/s and ratios to ours (minimum, median, maximum over rounds, all ways in turn in one
process), Redis' memory a user (as filled, and of those whose logs the script has since written),
and how long a script call blocked the server. Users are drawn by Zipf's law (exponent 0.9), each
with a full window; 2 % of the events are 0 to 3 s late. The ways:

    script     RedisWindows.slide and as_of: windows as of every event, late and duplicate told
    pipeline   a sorted set a user; ZADD, ZREMRANGEBYRANK, ZRANGE and EXPIRE of all users at once
    command    the same sorted sets; every command awaited before the next

The sorted sets answer less: a user's newest rows after the batch. Where that is the same question,
which is for a user's last event if it is not late, the answers are compared first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import redis.asyncio
from redis import Redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stream_app.core.record import Source
from stream_app.core.window import (
    HEAD,
    Ints,
    Rows,
    WindowPolicy,
    Windows,
    as_of,
    seq_of,
    source_tag,
)
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows
from tests.servers import RedisServer

ROW = np.dtype(
    [*HEAD, ("item", "<u4"), ("category", "<u4"), ("price", "<f4"), ("rest", "<u4")]
)  # 40 bytes
POLICY = WindowPolicy()
SOURCE = Source("shop.events", 0)
TTL_S = 90_000
NOW_MS = 1_700_000_000_000
ZIPF = 0.9
CHUNK_USERS = 384  # of a script call, as RedisWindows has it
PREFILLED = 500  # users at a time
SIZES = {"script": POLICY.horizon + 1, "pipeline": POLICY.size}  # rows of a user that are kept


class Batch(NamedTuple):
    users: list[bytes]
    rows: Rows
    committed: int


Way = Callable[[Batch], Awaitable[object]]


def rows_of(rng: np.random.Generator, at_ms: np.ndarray, first_offset: int) -> Rows:
    rows = np.zeros(len(at_ms), ROW)
    rows["at_ms"] = at_ms
    rows["id"] = rng.integers(0, 2**63, len(rows))
    offsets = first_offset + np.arange(len(rows), dtype=np.uint64)
    rows["seq"] = offsets + np.uint64(seq_of(source_tag(SOURCE.topic), 1))
    rows["item"] = rng.integers(0, 2**31, len(rows))
    return rows


async def prefill(
    rng: np.random.Generator, client: Redis, users: list[bytes], ways: Ways
) -> dict[str, float]:
    """Full windows for all, both ways; returns the bytes of Redis' memory a user."""
    most, seed = SIZES["script"], int(rng.integers(2**31))
    past_ms = NOW_MS - 60_000 * (most - np.arange(most))
    memory = {}
    for way in ("script", "pipeline"):
        rng = np.random.default_rng(seed)  # the same rows for both
        before = client.info("memory")["used_memory"]
        for begin in range(0, len(users), PREFILLED):
            some = users[begin : begin + PREFILLED]
            rows = [rows_of(rng, past_ms, (begin + at) * most) for at in range(len(some))]
            if way == "script":
                await ways.fill([user for user in some for _ in range(most)], np.concatenate(rows))
                continue
            pipe = client.pipeline(transaction=False)
            for user, own in zip(some, rows, strict=True):
                pipe.zadd(set_key(user), scored(own[-SIZES[way] :]))
                pipe.expire(set_key(user), TTL_S)
            pipe.execute()
        memory[way] = (client.info("memory")["used_memory"] - before) / len(users)
    return memory


def log_key(user: bytes) -> bytes:
    return b"shopsentry:{%d}:w:" % SOURCE.partition + user


def set_key(user: bytes) -> bytes:
    return b"shopsentry:{%d}:z:" % SOURCE.partition + user


def scored(rows: Rows) -> dict[bytes, float]:
    packed, size = rows.tobytes(), ROW.itemsize
    return {
        packed[size * at : size * at + size]: float(at_ms)
        for at, at_ms in enumerate(rows["at_ms"].tolist())
    }


def batches(rng: np.random.Generator, users: list[bytes], size: int, first: int) -> Iterator[Batch]:
    """Endless; offsets from `first` on, an event each ms."""
    weights = np.arange(1, len(users) + 1) ** -ZIPF
    shares = np.cumsum(weights / weights.sum())
    while True:
        which = np.minimum(np.searchsorted(shares, rng.random(size)), len(users) - 1)
        at_ms = NOW_MS + first + np.arange(size)
        late = rng.random(size) < 0.02
        at_ms[late] -= rng.integers(0, 3000, int(late.sum()))
        committed = seq_of(source_tag(SOURCE.topic), first)
        yield Batch([users[w] for w in which], rows_of(rng, at_ms, first), committed)
        first += size


class Ways:
    """The three ways, on one server."""

    def __init__(
        self, client: Redis, awaited: redis.asyncio.Redis, executor: ThreadPoolExecutor
    ) -> None:
        self._client = client
        self._awaited = awaited
        self._executor = executor
        self._windows = RedisWindows(client, "shopsentry", ROW, POLICY, executor=executor)

    async def fill(self, users: list[bytes], rows: Rows) -> None:
        await self._windows.slide(SOURCE, users, rows, ())

    async def script(self, batch: Batch) -> tuple[Ints, Windows]:
        """Accepted events and their windows."""
        logs = await self._windows.slide(SOURCE, batch.users, batch.rows, [batch.committed])
        return as_of(logs, POLICY)

    async def pipeline(self, batch: Batch) -> dict[bytes, Rows]:
        """Each user's newest rows."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._pipelined, batch)

    def _pipelined(self, batch: Batch) -> dict[bytes, Rows]:
        positions: dict[bytes, list[int]] = {}
        for at, user in enumerate(batch.users):
            positions.setdefault(user, []).append(at)
        pipe = self._client.pipeline(transaction=False)
        for user, own in positions.items():
            key = set_key(user)
            pipe.zadd(key, scored(batch.rows[own]))
            pipe.zremrangebyrank(key, 0, -POLICY.size - 1)
            pipe.zrange(key, 0, -1)
            pipe.expire(key, TTL_S)
        members = pipe.execute()[2::4]
        ends = np.cumsum([len(m) for m in members])
        rows = np.frombuffer(b"".join([b"".join(m) for m in members]), ROW)
        return dict(zip(positions, np.split(rows, ends[:-1]), strict=True))

    async def command(self, batch: Batch) -> dict[bytes, Rows]:
        """As `pipeline`."""
        found = {}
        for at, user in enumerate(batch.users):
            key = set_key(user)
            await self._awaited.zadd(key, scored(batch.rows[at : at + 1]))
            await self._awaited.zremrangebyrank(key, 0, -POLICY.size - 1)
            members: Any = await self._awaited.zrange(key, 0, -1)
            await self._awaited.expire(key, TTL_S)
            found[user] = np.frombuffer(b"".join(members), ROW)
        return found


def compare(batch: Batch, ours: tuple[Ints, Windows], theirs: dict[bytes, Rows]) -> int:
    """How many answers could be compared. Raises SystemExit if one differs."""
    accepted, windows = ours
    last = {user: at for at, user in enumerate(batch.users)}
    compared = 0
    for position, index, length in zip(accepted, windows.index, windows.length, strict=True):
        user = batch.users[position]
        rows = windows.rows[index[len(index) - length :]]
        if last[user] != position or rows["at_ms"][-1] < theirs[user]["at_ms"].max():
            continue  # the sorted set has what came after this event, in time or in order
        if set(rows["id"].tolist()) != set(theirs[user]["id"].tolist()):
            raise SystemExit(f"the window of {user.decode()} differs between the ways")
        compared += 1
    return compared


async def measure(
    ways: Ways, source: Iterator[Batch], rounds: int, client: Redis
) -> dict[str, Any]:
    """All ways on the same batches in turn: seconds a batch by way."""
    ours, theirs = ways.script, ways.pipeline
    compared = 0
    for _ in range(3):  # warms up, too
        batch = next(source)
        compared += compare(batch, await ours(batch), await theirs(batch))
        compare(batch, await ours(batch), await ways.command(batch))  # the same again, both
    taken: dict[str, list[float]] = {"script": [], "pipeline": [], "command": []}
    plan: list[tuple[str, Way]] = [
        ("script", ours),
        ("pipeline", theirs),
        ("command", ways.command),
    ]
    server_ms = []  # of a script call, mean over those of a batch
    for _ in range(rounds):
        batch = next(source)
        for name, way in plan:
            before_s = cpu_s(client)
            begin = time.perf_counter()
            await way(batch)
            taken[name].append(time.perf_counter() - begin)
            if name == "script":
                calls = -(-len(set(batch.users)) // CHUNK_USERS)
                server_ms.append((cpu_s(client) - before_s) * 1000 / calls)
    events = len(batch.users)
    report: dict[str, Any] = {"events": events, "rounds": rounds, "compared": compared}
    report["server_cpu_ms_a_call"] = spread(server_ms)
    for name, seconds in taken.items():
        report[name] = {"events_per_s": spread([events / s for s in seconds])}
        if name != "script":
            ratios = [s / o for s, o in zip(seconds, taken["script"], strict=True)]
            report[name]["times_ours"] = spread(ratios)
    return report


def cpu_s(client: Redis) -> float:
    """CPU seconds of the server so far."""
    told = client.info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


def spread(values: Sequence[float]) -> dict[str, float]:
    shown = (min(values), statistics.median(values), max(values))
    return dict(zip(("min", "median", "max"), (round(v, 2) for v in shown), strict=True))


async def run(users: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    names = [b"user-%06d" % number for number in range(users)]
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder)) as server,
        connect(server.url) as client,
        ThreadPoolExecutor(4) as executor,
    ):
        async with redis.asyncio.Redis.from_url(server.url) as awaited:
            ways = Ways(client, awaited, executor)
            memory = await prefill(rng, client, names, ways)
            report: dict[str, Any] = {
                "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, "
                f"Redis {client.info('server')['redis_version']}",
                "users": users,
                "rows_kept": SIZES,
                "bytes_per_user": {way: round(size) for way, size in memory.items()},
            }
            first = users * SIZES["script"]
            client.config_set("slowlog-log-slower-than", 100)  # microseconds
            client.config_set("slowlog-max-len", 100_000)
            for size in (2048, 512):
                source = batches(rng, names, size, first)
                client.slowlog_reset()
                report[f"batch_{size}"] = await measure(ways, source, rounds, client)
                report[f"batch_{size}"]["blocked_ms"] = blocked_ms(client)
                first += size * (rounds + 3)
            report["bytes_per_written_user"] = spread(written_bytes(client, names))
            return report


def blocked_ms(client: Redis) -> dict[str, float]:
    """Of script calls; as the server's clock says, so other work on the machine is in it."""
    took_us = [
        entry["duration"]
        for entry in client.slowlog_get(100_000)
        if entry["command"].startswith(b"EVALSHA")
    ]
    return {"calls": len(took_us), **spread([us / 1000 for us in took_us])}


def written_bytes(client: Redis, users: list[bytes]) -> list[int]:
    """MEMORY USAGE of the logs of the most active users."""
    return [client.memory_usage(log_key(user)) or 0 for user in users[:1000]]


def show(report: dict[str, Any]) -> None:
    print(f"{report['machine']}; {report['users']} users with full windows")
    for way, size in report["bytes_per_user"].items():
        print(f"  {way:9} {size} bytes a user ({report['rows_kept'][way]} rows)")
    written = report["bytes_per_written_user"]
    print(f"  written   {written['median']} bytes a user ({written['min']}-{written['max']})")
    for size in (2048, 512):
        part = report[f"batch_{size}"]
        print(f"{size} events a batch, {part['rounds']} rounds, {part['compared']} answers equal")
        blocked = part["blocked_ms"]
        print(
            f"  a script call blocks Redis {blocked['median']} ms ({blocked['min']}-"
            f"{blocked['max']}, {blocked['calls']} calls), "
            f"{part['server_cpu_ms_a_call']['median']} ms of it CPU"
        )
        for way in ("script", "pipeline", "command"):
            rate = part[way]["events_per_s"]
            line = f"  {way:9} {rate['median']:9.0f} events/s ({rate['min']:.0f}-{rate['max']:.0f})"
            if ratio := part[way].get("times_ours"):
                line += f"; script is {ratio['median']:.1f} x faster"
                line += f" ({ratio['min']:.1f}-{ratio['max']:.1f})"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="Windows in Redis against two naive ways.")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    report = asyncio.run(run(args.users, args.rounds))
    if args.json:
        print(json.dumps(report))
    else:
        show(report)


if __name__ == "__main__":
    main()
