"""Counters that a store keeps: as in one process, whoever counts and however often records come."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import pytest
from msgspec import msgpack, structs
from redis import Redis

from models import schema as schemas
from models.counters.at_hand import AtHand
from models.counters.counting import Counting
from models.counters.kept import CHUNK, KeptCounting
from models.counters.shopper import Shopper
from models.counters.state import State
from models.encoding import SchemaEncoder
from models.schema import COUNTED, Schema
from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured, StoreUnavailable
from stream_app.core.ports import Advance, Key, StateStore, Stored
from stream_app.core.record import Source, StoredRecord
from stream_app.core.window import Rows, seq_of, source_tag
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_state import RedisState
from tests.models.conftest import Files
from tests.servers import RedisServer

SOURCE = Source("events", 0)
pytestmark = pytest.mark.redis


class Stream(NamedTuple):
    """Records as they come, and what a file's reading counts of them."""

    schema: Schema
    users: list[bytes]
    rows: Rows  # not counted yet
    counted: Rows

    def committed(self, records: int) -> list[int]:
        return [seq_of(source_tag(SOURCE.topic), records)]


@pytest.fixture(scope="module")
def stream(files: Files) -> Stream:
    schema = schemas.load("shop-counters")
    records = [
        StoredRecord(
            topic=SOURCE.topic, partition=0, offset=n, timestamp=1 << 46, key=None, value=line
        )
        for n, line in enumerate(files.data.read_bytes().splitlines())
    ]
    events = decode(records, schema.tasks).events
    rows = SchemaEncoder(schema).encode(events)
    rows["seq"] = [seq_of(source_tag(SOURCE.topic), n + 1) for n in range(len(rows))]
    users = [event.user_id.encode() for event in events]
    counted = rows.copy()
    Counting(schema).fill(users, counted)
    assert counted.tobytes() != rows.tobytes()
    return Stream(schema, users, rows, counted)


class CutOff:
    """A store whose answers get lost: some steps are not taken, of some one does not hear."""

    def __init__(self, store: StateStore, dice: random.Random) -> None:
        self._store, self._dice = store, dice
        self.lost = 0

    async def begin(self, source: Source, form: str) -> Stored:
        return await self._store.begin(source, form)

    async def read(self, source: Source, form: str, keys: Sequence[Key]) -> list[bytes | None]:
        self._perhaps(0.05)
        return await self._store.read(source, form, keys)

    async def advance(self, source: Source, form: str, step: Advance) -> bool:
        self._perhaps(0.15)
        taken = await self._store.advance(source, form, step)
        self._perhaps(0.15)
        return taken

    def _perhaps(self, share: float) -> None:
        if self._dice.random() < share:
            self.lost += 1
            raise StoreUnavailable("cut off")


@asynccontextmanager
async def store_of(
    server: RedisServer, prefix: str = ""
) -> AsyncIterator[tuple[RedisState, Redis]]:
    with ThreadPoolExecutor(2) as pool, connect(server.url) as redis:
        yield RedisState(redis, prefix or uuid4().hex, executor=pool), redis


async def fill(kept: KeptCounting, stream: Stream, begin: int, end: int, committed: int) -> Rows:
    rows = stream.rows[begin:end].copy()
    await kept.fill(SOURCE, stream.users[begin:end], rows, stream.committed(committed))
    return rows


@pytest.mark.parametrize("at_hand", [20, 100_000])
def test_a_worker_counts_as_a_file_is_counted(
    redis_server: RedisServer, stream: Stream, at_hand: int
) -> None:
    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            kept, begin, sizes = (
                KeptCounting(stream.schema, store, at_hand),
                0,
                (1, 3, 40, 2 * CHUNK + 7),
            )
            while begin < len(stream.rows):
                for size in sizes:
                    rows = await fill(kept, stream, begin, begin + size, max(0, begin - 100))
                    assert rows.tobytes() == stream.counted[begin : begin + size].tobytes()
                    begin += size

    asyncio.run(count())


@pytest.mark.parametrize("seed", range(4))
def test_workers_that_fail_and_do_not_know_of_each_other_count_once(
    redis_server: RedisServer, stream: Stream, seed: int
) -> None:
    """Each begins anywhere behind what is committed, also where another one has been."""
    dice = random.Random(seed)

    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            cut = CutOff(store, dice)
            workers = [KeptCounting(stream.schema, cut, 50) for _ in range(3)]
            committed = reached = 0
            while reached < len(stream.rows):
                begin = dice.randint(committed, reached)
                end = min(begin + dice.choice((1, 30, CHUNK + 50)), len(stream.rows))
                try:
                    rows = await fill(dice.choice(workers), stream, begin, end, committed)
                except StoreUnavailable:
                    continue
                assert rows.tobytes() == stream.counted[begin:end].tobytes()
                reached = max(reached, end)
                committed = dice.randint(committed, reached)
            assert cut.lost

    asyncio.run(count())


def test_what_is_at_hand_is_bounded_by_bytes_too(
    redis_server: RedisServer, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 20_000
    monkeypatch.setattr("models.counters.at_hand.MOST_BYTES", most)
    state = State(1)
    at_hand, shopper = AtHand(state, 100_000), Shopper.begun(0, 0.0, 3, 1)
    size = len(msgpack.encode(shopper))
    keys: list[Key] = [(b"u", number) for number in range(1000)]
    at_hand.put(keys, [msgpack.encode(shopper)] * len(keys))
    at_hand.used(keys)
    assert list(state.users) == list(range(1000))[-(most // size) :]

    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            kept = KeptCounting(stream.schema, store)
            for begin in range(0, len(stream.rows), CHUNK):
                rows = await fill(kept, stream, begin, begin + CHUNK, begin)
                assert rows.tobytes() == stream.counted[begin : begin + CHUNK].tobytes()

    asyncio.run(count())


def test_two_groups_at_once_are_counted_one_after_the_other(
    redis_server: RedisServer, stream: Stream
) -> None:
    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            kept = KeptCounting(stream.schema, store)
            await fill(kept, stream, 0, 100, 0)
            both = await asyncio.gather(*(fill(kept, stream, 0, end, 0) for end in (300, 600)))
            for rows in both:
                assert rows.tobytes() == stream.counted[: len(rows)].tobytes()

    asyncio.run(count())


class Weighed:
    """A store that notes how much its steps change, and of how many rows they are."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.steps: list[tuple[int, int]] = []
        self.begin, self.read = store.begin, store.read

    async def advance(self, source: Source, form: str, step: Advance) -> bool:
        changed = sum(map(len, step.values.values()))
        self.steps.append((changed, step.end - step.begin))
        return await self._store.advance(source, form, step)


def test_a_step_changes_no_more_than_redis_takes_at_once(
    redis_server: RedisServer, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 30_000
    monkeypatch.setattr("models.counters.kept.STEP_BYTES", most)

    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            weighed = Weighed(store)
            kept, size = KeptCounting(stream.schema, weighed), 2 * CHUNK + 7
            for begin in range(0, len(stream.rows), size):
                rows = await fill(kept, stream, begin, begin + size, begin)
                assert rows.tobytes() == stream.counted[begin : begin + size].tobytes()
            assert all(changed <= most or rows == 1 for changed, rows in weighed.steps)
            assert sum(rows for _, rows in weighed.steps) == len(stream.rows)
            assert max(changed for changed, _ in weighed.steps) > most / 4

    asyncio.run(count())


def test_records_that_were_committed_are_not_counted_again(
    redis_server: RedisServer, stream: Stream
) -> None:
    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            kept = KeptCounting(stream.schema, store)
            await fill(kept, stream, 0, 300, 0)
            await fill(kept, stream, 300, 400, 300)
            again = await fill(kept, stream, 100, 350, 300)
            assert np.isnan(again[f"{COUNTED}0"][:200]).all()
            assert again[200:].tobytes() == stream.counted[300:350].tobytes()
            rows = await fill(KeptCounting(stream.schema, store), stream, 400, 500, 400)
            assert rows.tobytes() == stream.counted[400:500].tobytes()

    asyncio.run(count())


def test_a_redis_that_lost_everything_begins_anew(
    redis_server: RedisServer, stream: Stream
) -> None:
    async def count() -> None:
        prefix = uuid4().hex
        async with store_of(redis_server, prefix) as (store, redis):
            kept = KeptCounting(stream.schema, store)
            await fill(kept, stream, 0, 300, 0)
            for key in redis.scan_iter(f"{prefix}:*"):
                redis.delete(key)
            rows = await fill(kept, stream, 300, 400, 300)
            fresh, expected = Counting(stream.schema), stream.rows[300:400].copy()
            fresh.fill(stream.users[300:400], expected)
            assert rows.tobytes() == expected.tobytes()

    asyncio.run(count())


def test_types_in_another_order_are_counted_elsewhere(
    redis_server: RedisServer, stream: Stream
) -> None:
    types = dict(reversed(stream.schema.types.items()))
    other = structs.replace(stream.schema, types=types)
    assert other.counter_names == stream.schema.counter_names

    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            await fill(KeptCounting(other, store), stream, 0, 100, 0)
            rows = await fill(KeptCounting(stream.schema, store), stream, 0, 100, 0)
            assert rows.tobytes() == stream.counted[:100].tobytes()
            rows = await fill(KeptCounting(stream.schema, store), stream, 100, 200, 0)
            assert rows.tobytes() == stream.counted[100:200].tobytes()

    asyncio.run(count())


def test_a_topic_that_gets_a_second_partition_is_refused(
    redis_server: RedisServer, stream: Stream
) -> None:
    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            kept = KeptCounting(stream.schema, store)
            with pytest.raises(Misconfigured, match="more than one partition"):
                await kept.fill(Source("events", 1), stream.users[:1], stream.rows[:1].copy(), [])

    asyncio.run(count())


def test_counters_of_another_schema_lie_elsewhere(
    redis_server: RedisServer, stream: Stream
) -> None:
    async def count() -> None:
        async with store_of(redis_server) as (store, _):
            await fill(KeptCounting(stream.schema, store), stream, 0, 100, 0)
            wiki = schemas.load("wiki-counters")
            line = json.dumps({"user_id": "a", "type": "edit", "item_id": "b", "event_time": 1})
            record = StoredRecord(
                topic="t", partition=0, offset=0, timestamp=1 << 46, key=None, value=line.encode()
            )
            rows = SchemaEncoder(wiki).encode(decode([record], wiki.tasks).events)
            rows["seq"] = seq_of(source_tag(SOURCE.topic), 1)
            expected = rows.copy()
            Counting(wiki).fill([b"a"], expected)
            await KeptCounting(wiki, store).fill(SOURCE, [b"a"], rows, [])
            assert rows.tobytes() == expected.tobytes()

    asyncio.run(count())
