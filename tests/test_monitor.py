"""The worker's batches, its health and its lag, over a consumer that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import stream_app.monitor
from stream_app.core.errors import OutboxUnavailable, StoreUnavailable
from stream_app.core.outcome import Output
from stream_app.core.record import Source
from stream_app.core.window import Logs, seq_of, source_tag
from stream_app.edges.memory import MemoryOutbox, MemoryWindows
from stream_app.edges.metrics import PrometheusMeter
from stream_app.monitor import STUCK_S, Monitor
from stream_app.partition import FlowPolicy
from tests.builders import EVENTS, WINDOWS, Desk, SmallEncoder, batch, click, records

OTHER = Source("shop.events", 1)
MORE = Source("more-events", 0)


class Places:
    """Stands for the consumer: partitions with their committed and newest offsets."""

    def __init__(self, **_: object) -> None:
        self.offsets: dict[Source, tuple[int, int]] = {}

    def assigned(self) -> list[Source]:
        return list(self.offsets)

    def committed(self, source: Source) -> int:
        return self.offsets[source][0]

    def behind(self, source: Source) -> int:
        committed, newest = self.offsets[source]
        return newest - committed


class MoodyWindows(MemoryWindows):
    """Raises `trouble` if there is any; keeps what it was told of commits."""

    def __init__(self) -> None:
        super().__init__(SmallEncoder.row, WINDOWS)
        self.trouble: Exception | None = None
        self.committed: list[object] = []

    async def slide(self, source: Source, users: object, rows: object, committed: object) -> Logs:
        self.committed.append(committed)
        if self.trouble is not None:
            raise self.trouble
        return await super().slide(source, users, rows, committed)  # type: ignore[arg-type]


class RefusingOutbox(MemoryOutbox):
    async def publish(self, *_: object) -> asyncio.Future[None]:
        raise OutboxUnavailable("refused")


class Stand:
    """A monitor, and what stands around it."""

    def __init__(self, **edges: MemoryOutbox) -> None:
        self.windows = MoodyWindows()
        self.desk = Desk(windows=self.windows, **edges)  # type: ignore[arg-type]
        self.places = Places()
        self.meter = PrometheusMeter()
        self.crashes: list[BaseException] = []
        flow = FlowPolicy(retry_first_s=0.001, retry_last_s=0.001)
        self.monitor = Monitor(self.desk.pipeline, flow, self.meter, self.desk.scorer)
        self.monitor.attach(lambda: self.places, self._crash)

    async def _crash(self, error: BaseException) -> None:
        self.crashes.append(error)

    def told(self) -> tuple[str, str]:
        health = self.monitor.health()
        return health.status, health.why


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    yield made
    await made.monitor.close()


async def until_true(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for knows nothing of tests
            await asyncio.sleep(0.001)


async def test_before_the_consumer_is_there_it_is_starting() -> None:
    desk = Desk()
    monitor = Monitor(desk.pipeline, FlowPolicy(), PrometheusMeter(), desk.scorer)
    health = monitor.health()
    assert (health.status, health.partitions, health.lag_records) == ("starting", 0, 0)
    assert (health.model, health.device) == (desk.scorer.version, desk.scorer.device)


async def test_without_partitions_it_is_starting_and_with_them_ok(stand: Stand) -> None:
    assert stand.told()[0] == "starting"
    stand.places.offsets = {EVENTS: (0, 0)}
    assert stand.told() == ("ok", "")


async def test_lag_is_the_sum_over_partitions_and_shown_for_each(stand: Stand) -> None:
    stand.places.offsets = {EVENTS: (10, 25), OTHER: (7, 7), MORE: (0, 3)}
    health = stand.monitor.health()
    assert (health.partitions, health.lag_records) == (3, 18)
    page = stand.monitor.metrics().decode()
    assert 'shopsentry_lag_records{partition="0",topic="shop.events"} 15.0' in page
    assert 'shopsentry_lag_records{partition="1",topic="shop.events"} 0.0' in page
    assert 'shopsentry_lag_records{partition="0",topic="more-events"} 3.0' in page


async def test_a_batch_goes_through_its_partition_and_is_counted(stand: Stand) -> None:
    stand.places.offsets = {EVENTS: (0, 3)}
    await stand.monitor.process(batch(records(click("u1", at_ms=0), b"bad", click("u2", at_ms=1))))
    await until_true(lambda: stand.desk.published[Output.CLEANED])
    await until_true(lambda: "shopsentry_group_seconds_count 1.0" in stand.meter.page().decode())
    page = stand.monitor.metrics().decode()
    assert 'shopsentry_records_total{outcome="cleaned"} 2.0' in page
    assert 'shopsentry_dead_letters_total{reason="not-json"} 1.0' in page


async def test_partitions_that_stand_still_make_it_degraded_until_they_go_on(stand: Stand) -> None:
    stand.places.offsets = {EVENTS: (0, 1), OTHER: (0, 0)}
    stand.windows.trouble = StoreUnavailable("Redis is away")
    await stand.monitor.process(batch(records(click("u1", at_ms=0))))
    await until_true(lambda: stand.meter.waiting_since)
    assert stand.told() == ("degraded", "1 partitions stand still: Redis is away")
    stand.windows.trouble = None
    await until_true(lambda: stand.desk.published[Output.CLEANED])
    await until_true(lambda: stand.told() == ("ok", ""))


async def test_a_partition_that_stood_still_and_went_to_another_worker_does_not_count(
    stand: Stand,
) -> None:
    stand.places.offsets = {OTHER: (0, 0)}
    stand.meter.waiting(EVENTS, StoreUnavailable("Redis is away"))
    assert stand.told() == ("ok", "")


class HandClock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def monotonic(self) -> float:
        return self.now_s


async def test_records_that_wait_while_nothing_is_finished_make_it_degraded(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock(stand.meter.last_group_s + STUCK_S)
    monkeypatch.setattr(stream_app.monitor, "time", clock)
    stand.places.offsets = {EVENTS: (0, 5)}
    assert stand.told() == ("ok", "")
    clock.now_s += 1
    assert stand.told() == ("degraded", "5 records wait, but none was finished for 61 s")
    stand.places.offsets = {EVENTS: (5, 5)}
    assert stand.told() == ("ok", "")  # nothing to do is no trouble


async def test_windows_hear_the_commits_of_all_topics_of_their_partition(stand: Stand) -> None:
    stand.places.offsets = {EVENTS: (7, 9), OTHER: (100, 100), MORE: (3, 3)}
    await stand.monitor.process(batch(records(click("u1", at_ms=0), first=7)))
    await until_true(lambda: stand.windows.committed)
    assert stand.windows.committed == [
        [seq_of(source_tag("shop.events"), 7), seq_of(source_tag("more-events"), 3)]
    ]


async def test_what_can_not_be_published_stops_the_worker_once() -> None:
    stand = Stand(outbox=RefusingOutbox())
    for source in (EVENTS, OTHER):
        await stand.monitor.process(batch(records(click("u1", at_ms=0), source=source), source))
    await until_true(lambda: stand.crashes)
    await asyncio.sleep(0.01)
    assert [str(error) for error in stand.crashes] == ["refused"]
    await stand.monitor.close()


async def test_close_ends_all_that_it_started(stand: Stand) -> None:
    before = asyncio.all_tasks()
    stand.windows.trouble = StoreUnavailable("Redis is away")
    for source in (EVENTS, OTHER):
        await stand.monitor.process(batch(records(click("u1", at_ms=0), source=source), source))
    assert len(asyncio.all_tasks()) > len(before)
    await stand.monitor.close()
    assert asyncio.all_tasks() == before
