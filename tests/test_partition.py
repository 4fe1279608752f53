"""Groups of one partition on their way, held and let go at each stage by the test.

put --> [windows] --> [scorer] --> [outbox] --> [confirmed] --> ack      [..] a gate
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_app.partition
from stream_app.core.alerting import Anomaly, Verdict
from stream_app.core.errors import DeviceFailed, OutboxUnavailable, StoreUnavailable
from stream_app.core.ledger import Delivery, Ledger
from stream_app.core.outcome import COALESCED, Message, Output
from stream_app.core.record import RecordBatch, Source
from stream_app.core.score import Scores
from stream_app.core.window import Ints, Logs, Rows, Windows
from stream_app.edges.memory import (
    FixedScorer,
    MemoryAlertLog,
    MemoryMeter,
    MemoryOutbox,
    MemoryWindows,
)
from stream_app.partition import FlowPolicy, Partition
from tests.builders import (
    ALERTS,
    EVENTS,
    START_MS,
    TASKS,
    THRESHOLDS,
    WINDOWS,
    Desk,
    SmallEncoder,
    click,
    records,
    scores_as_told,
)


class Gate:
    """Open at first. When shut, who comes waits in line until the test lets one through."""

    def __init__(self) -> None:
        self.shut = False
        self.came = 0
        self.turns: list[int] = []  # of the event loop: how long each who comes is held up
        self._line: deque[asyncio.Future[None]] = deque()

    async def passed(self) -> None:
        self.came += 1
        if self.turns:
            for _ in range(self.turns[self.came % len(self.turns)]):
                await asyncio.sleep(0)
        if self.shut:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            await turn

    def let_one(self, error: Exception | None = None) -> None:
        turn = self._line.popleft()
        if error is None:
            turn.set_result(None)
        else:
            turn.set_exception(error)

    def open(self) -> None:
        self.shut = False
        while self._line:
            self.let_one()


class GatedWindows(MemoryWindows):
    def __init__(self) -> None:
        super().__init__(SmallEncoder.row, WINDOWS)
        self.gate = Gate()
        self.asked: list[list[int]] = []  # offsets
        self.committed: list[list[int]] = []

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        self.asked.append([(int(seq) & (1 << 48) - 1) - 1 for seq in rows["seq"]])
        self.committed.append(list(committed))
        await self.gate.passed()
        return await super().slide(source, users, rows, committed)


class GatedScorer(FixedScorer):
    def __init__(self) -> None:
        super().__init__(TASKS, THRESHOLDS, scores_as_told)
        self.gate = Gate()

    async def score(self, windows: Windows, tasks: Ints) -> Scores:
        await self.gate.passed()
        return await super().score(windows, tasks)


class GatedAlertLog(MemoryAlertLog):
    def __init__(self) -> None:
        super().__init__(ALERTS)
        self.gate = Gate()

    async def judge(self, partition: int, anomalies: Sequence[Anomaly]) -> list[Verdict]:
        await self.gate.passed()
        return await super().judge(partition, anomalies)


class GatedOutbox(MemoryOutbox):
    def __init__(self) -> None:
        super().__init__()
        self.handing_over, self.confirming = Gate(), Gate()
        self.next_offsets: list[int] = []

    async def publish(
        self, source: Source, next_offset: int, messages: Mapping[Output, Sequence[Message]]
    ) -> asyncio.Future[None]:
        await self.handing_over.passed()
        self.next_offsets.append(next_offset)
        await super().publish(source, next_offset, messages)
        return asyncio.ensure_future(self.confirming.passed())


class Bench:
    """A partition between gates, and the ledger that deals out its records."""

    def __init__(self, flow: FlowPolicy) -> None:
        self.windows, self.scorer = GatedWindows(), GatedScorer()
        self.alerts, self.outbox = GatedAlertLog(), GatedOutbox()
        self.meter = MemoryMeter()
        self.failures: list[BaseException] = []
        self.ledger = Ledger(0)
        self.next = 0
        self.behind = 0
        desk = Desk(
            windows=self.windows, scorer=self.scorer, alerts=self.alerts, outbox=self.outbox
        )
        self.partition = Partition(
            EVENTS,
            desk.pipeline,
            self._committed,
            lambda _: self.behind,
            flow,
            self.meter,
            self.failures.append,
        )

    def _committed(self, source: Source) -> list[int]:
        assert source == EVENTS
        return [self.ledger.committed]

    def deal(self, count: int, score: float | None = None) -> RecordBatch:
        first, self.next = self.next, self.next + count
        acts = (click(f"u{n % 3}", at_ms=n, score=score) for n in range(first, self.next))
        delivery = self.ledger.deliver(self.next)
        return RecordBatch(EVENTS, records(*acts, first=first), delivery)

    async def put(self, count: int, score: float | None = None) -> Delivery:
        """Deal out `count` records, and let everything go on as far as the gates allow."""
        batch = self.deal(count, score)
        await self.partition.put(batch)
        await rest()
        return batch.delivery

    def published(self) -> list[int]:
        """Times of the published events, in order of publication; equal to their offsets here."""
        return [_at_ms(message) for message in self.outbox.messages[Output.CLEANED]]


def _at_ms(message: Message) -> int:
    assert message.value is not None
    return int(json.loads(message.value)["event_time"]) - START_MS


@asynccontextmanager
async def bench(**flow: float) -> AsyncIterator[Bench]:
    """A bench that ends without a failure, unless the test has looked at it."""
    policy = {"retry_first_s": 0.001, "retry_last_s": 0.002, "group_target_s": 60.0, **flow}
    made = Bench(FlowPolicy(**policy))  # type: ignore[arg-type]
    yield made
    await made.partition.close()
    assert not made.failures


async def rest() -> None:
    """Let every task run until it waits for a gate."""
    for _ in range(30):
        await asyncio.sleep(0)


# -- grouping


async def test_what_waits_becomes_one_group_of_at_most_so_many_records() -> None:
    async with bench(group_records=8) as b:
        b.windows.gate.shut = True
        await b.put(3)
        for _ in range(5):
            await b.put(3)
        assert b.windows.asked == [[0, 1, 2]]  # alone, since nothing else waited then
        b.windows.gate.open()
        await rest()
        assert [len(group) for group in b.windows.asked] == [3, 8, 7]
        assert b.published() == list(range(18))
        assert b.meter.groups == [3, 8, 7]
        assert b.ledger.committable() == 18


async def test_a_batch_larger_than_a_group_is_cut_and_each_part_acked_by_itself() -> None:
    async with bench(group_records=4, in_flight=3) as b:
        b.outbox.confirming.shut = True
        await b.put(10)
        assert b.windows.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        for committable in (4, 8, 10):
            b.outbox.confirming.let_one()
            await rest()
            assert b.ledger.committable() == committable


async def test_a_single_record_does_not_wait_for_company() -> None:
    async with bench() as b:
        await b.put(1)
        assert b.ledger.committable() == 1


async def test_the_store_hears_what_is_committed_at_each_try() -> None:
    async with bench() as b:
        await b.put(2)
        b.ledger.committed = 2
        await b.put(1)
        assert b.windows.committed == [[0], [2]]


# -- overlap and order


async def test_windows_are_cut_only_while_the_partition_is_too_far_behind() -> None:
    bench = Bench(FlowPolicy(coalesce_behind=10))
    told = []
    for bench.behind in (10, 11, 0):
        await bench.put(3 * WINDOWS.size)
        told.append(bench.meter.counts[COALESCED])
    assert told[0] == 0
    assert told[1] == told[2] > 0


async def test_no_more_than_so_many_groups_are_on_their_way() -> None:
    async with bench(in_flight=2) as b:
        b.outbox.confirming.shut = True
        for _ in range(4):
            await b.put(1)
        assert b.windows.asked == [[0], [1]]
        b.outbox.confirming.let_one()
        await rest()
        assert b.windows.asked == [[0], [1], [2, 3]]  # 2 and 3 waited, so they go together


async def test_the_next_group_reads_its_windows_while_one_is_scored_but_does_not_overtake() -> None:
    async with bench(in_flight=3) as b:
        b.scorer.gate.shut = True
        for _ in range(3):
            await b.put(2)
        assert b.windows.asked == [[0, 1], [2, 3]]  # the third waits for the second to go on
        assert b.scorer.gate.came == 1
        b.scorer.gate.open()
        await rest()
        assert b.windows.asked == [[0, 1], [2, 3], [4, 5]]
        assert b.published() == [0, 1, 2, 3, 4, 5]


async def test_a_group_that_the_producer_keeps_waiting_is_not_overtaken() -> None:
    async with bench(in_flight=3) as b:
        b.outbox.handing_over.shut = True
        for _ in range(3):
            await b.put(1)
        assert b.outbox.handing_over.came == 1
        b.outbox.handing_over.open()
        await rest()
        assert b.published() == [0, 1, 2]


async def test_records_are_acked_when_the_brokers_confirmed_and_not_before() -> None:
    async with bench() as b:
        b.outbox.confirming.shut = True
        await b.put(3)
        assert b.published() == [0, 1, 2]
        assert b.ledger.committable() is None
        assert b.meter.groups == []
        b.outbox.confirming.let_one()
        await rest()
        assert b.ledger.committable() == 3
        assert (b.meter.records, b.meter.counts[Output.CLEANED]) == (3, 3)


async def test_confirmations_out_of_order_commit_only_the_prefix() -> None:
    async with bench() as b:
        b.outbox.confirming.shut = True
        first, second = await b.put(1), await b.put(1)
        b.outbox.confirming._line.rotate()
        b.outbox.confirming.let_one()
        await rest()
        assert (first.acked, second.acked) == (False, True)
        assert b.ledger.committable() is None


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_whatever_the_delays_all_is_published_once_and_in_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 9), max_size=12))
    delays = st.integers(0, 12)
    async with bench(
        group_records=data.draw(st.integers(1, 12)),
        in_flight=data.draw(st.integers(1, 4)),
        waiting_records=data.draw(st.integers(1, 20)),
    ) as b:
        for gate in (b.windows.gate, b.scorer.gate, b.outbox.handing_over, b.outbox.confirming):
            gate.turns = data.draw(st.lists(delays, min_size=1, max_size=20))
        for size in sizes:
            await asyncio.wait_for(b.partition.put(b.deal(size)), 5)
        await _until(lambda: (b.ledger.committable() or 0) == b.next)
        assert b.published() == list(range(b.next))
        assert sum(b.meter.groups) == b.next


# -- trouble


async def test_without_windows_the_same_records_are_tried_again_and_none_is_lost() -> None:
    async with bench() as b:
        b.windows.gate.shut = True
        await b.put(3)
        troubles = [StoreUnavailable("down"), StoreUnavailable("still down")]
        for trouble in troubles:
            b.windows.gate.let_one(trouble)
            await _until(lambda: bool(b.windows.gate._line))
        assert b.windows.asked == [[0, 1, 2]] * 3
        assert b.meter.waits == troubles
        assert b.published() == []
        b.windows.gate.open()
        await rest()
        assert b.published() == [0, 1, 2]
        assert b.ledger.committable() == 3


async def test_pauses_between_tries_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds > 0:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    async with bench(retry_first_s=0.1, retry_last_s=0.5) as b:
        b.windows.gate.shut = True
        await b.put(1)
        for _ in range(5):
            b.windows.gate.let_one(StoreUnavailable("down"))
            await rest()
        assert pauses == [0.1, 0.2, 0.4, 0.5, 0.5]
        b.windows.gate.open()


async def test_while_the_alert_log_is_unavailable_an_anomaly_waits_and_is_published_once() -> None:
    async with bench() as b:
        b.alerts.gate.shut = True
        await b.put(1, score=0.9)
        b.alerts.gate.let_one(StoreUnavailable("down"))
        await _until(lambda: b.alerts.gate.came == 2)
        assert len(b.meter.waits) == 1
        b.alerts.gate.open()
        await rest()
        assert len(b.outbox.messages[Output.QUARANTINED]) == 1
        assert len(b.outbox.messages[Output.ALERTS]) == 1
        assert b.ledger.committable() == 1


async def test_a_group_whose_partition_was_taken_away_publishes_nothing() -> None:
    async with bench() as b:
        b.scorer.gate.shut = True
        lost = await b.put(2)
        b.ledger.forget()
        b.next = 0
        await b.put(3)
        b.scorer.gate.open()
        await rest()
        assert not lost.acked
        assert b.windows.asked == [[0, 1], [0, 1, 2]]
        assert b.published() == [0, 1, 2]


async def test_a_group_whose_partition_was_taken_away_stops_trying() -> None:
    async with bench() as b:
        b.windows.gate.shut = True
        await b.put(2)
        b.windows.gate.let_one(StoreUnavailable("down"))
        await rest()
        b.ledger.forget()
        await asyncio.sleep(0.01)
        assert b.windows.asked == [[0, 1]]
        b.next = 0
        await b.put(1)
        assert b.windows.asked == [[0, 1], [0]]  # the turn was given back


@pytest.mark.parametrize("stage", ["windows", "scorer"])
async def test_a_drain_drops_what_is_not_published_however_far_it_has_come(stage: str) -> None:
    async with bench(group_records=4, in_flight=3) as b:
        b.outbox.confirming.shut = True
        published = await b.put(2)
        gate: Gate = getattr(b, stage).gate
        gate.shut = True
        under_way, waiting = await b.put(6), await b.put(6)
        b.ledger.drain()
        assert not b.ledger.settled()  # what is published lacks its ack
        b.outbox.confirming.open()
        gate.open()
        await rest()
        assert (published.acked, under_way.stale, waiting.stale) == (True, True, True)
        assert b.published() == [0, 1]
        assert b.ledger.committable() == 2
        b.ledger.committed = 2
        assert b.ledger.settled()


@pytest.mark.parametrize("gate", ["handing_over", "confirming"])
async def test_outputs_that_are_refused_end_the_worker_and_are_not_acked(gate: str) -> None:
    async with bench() as b:
        door: Gate = getattr(b.outbox, gate)
        door.shut = True
        delivery = await b.put(2)
        door.let_one(OutboxUnavailable("refused"))
        await rest()
        assert [str(error) for error in b.failures] == ["refused"]
        b.failures.clear()
        assert not delivery.acked
        assert b.meter.groups == []


async def test_a_failing_device_ends_the_worker() -> None:
    async with bench() as b:
        b.scorer.gate.shut = True
        delivery = await b.put(2)
        b.scorer.gate.let_one(DeviceFailed("gone"))
        await rest()
        assert isinstance(b.failures.pop(), DeviceFailed)
        assert not delivery.acked


# -- how much at once


async def test_put_waits_while_too_much_waits_already_and_goes_on_when_it_does_not() -> None:
    async with bench(group_records=4, waiting_records=10) as b:
        b.windows.gate.shut = True
        await b.put(4)  # taken at once, and held
        await b.put(10)  # waits, just not too much
        putting = asyncio.ensure_future(b.partition.put(b.deal(1)))
        await rest()
        assert not putting.done()
        b.windows.gate.let_one()
        await rest()
        assert putting.done()
        b.windows.gate.open()
        await rest()
        assert b.published() == list(range(15))


class HandClock:
    """Stands for the module `time`: moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


async def test_groups_shrink_while_they_take_too_long_and_grow_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = HandClock()
    monkeypatch.setattr(stream_app.partition, "time", clock)
    async with bench(group_records=64, smallest_group=5, group_target_s=1.0, in_flight=1) as b:
        b.windows.gate.shut = True
        await b.put(1000)
        sizes = []
        # The time that each group takes: as long as wanted, four times that, ...
        for took_s in (1.0, 4.0, 4.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4):
            sizes.append(len(b.windows.asked[-1]))
            clock.now_s += took_s
            b.windows.gate.let_one()
            await rest()
        assert sizes == [64, 64, 16, 5, 5, 5, 10, 20, 40, 64, 64]
        b.windows.gate.open()


# -- the end


async def test_close_ends_every_task_and_acks_nothing_more() -> None:
    before = asyncio.all_tasks()
    async with bench(in_flight=3) as b:
        b.windows.gate.shut = b.scorer.gate.shut = True
        deliveries = [await b.put(2) for _ in range(4)]
        b.windows.gate.let_one()
        await rest()
        await b.partition.close()
        assert asyncio.all_tasks() == before
        b.scorer.gate.shut = False
        await rest()
        assert not any(delivery.acked for delivery in deliveries)
        assert b.published() == []


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for knows nothing of tests
            await asyncio.sleep(0.001)
