"""A poll takes some records of each partition, and tells of trouble without losing any."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import nullcontext
from types import SimpleNamespace

from aiokafka.errors import CorruptRecordException, KafkaError
from faust.types import TP

from stream_app.transport.thread import LEAST_RECORDS, POLL_RECORDS, FetchThread
from tests.transport.fakes import TP0, TP1


class Fetched:
    """aiokafka's fetcher: how many records are there of each partition, or what went wrong."""

    _closed = False
    _subscriptions = SimpleNamespace(fetch_context=nullcontext)

    def __init__(self, there: dict[TP, int | KafkaError]) -> None:
        self._records = there
        self.waits: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def fetched_records(
        self,
        partitions: Set[TP],
        timeout: float,  # noqa: ASYNC109 aiokafka's
        max_records: int,
    ) -> dict[TP, list[int]]:
        self.waits.append(timeout)
        self.meanwhile()
        found: dict[TP, list[int]] = {}
        for tp in self._records.keys() & partitions:
            there = self._records[tp]
            if isinstance(there, KafkaError):
                del self._records[tp]
                raise there
            if taken := min(there, max_records):
                found[tp], self._records[tp] = list(range(taken)), there - taken
        return found


class Polling:
    """A thread over such a fetcher, and the partitions that Faust asks for."""

    def __init__(self, there: Fetched) -> None:
        self.active = {TP0, TP1}
        self._thread = object.__new__(FetchThread)
        self._thread._polls, self._thread._served = 0, {}
        self._thread.consumer = SimpleNamespace(flow_active=True)
        self._consumer = SimpleNamespace(_fetcher=there, _closed=False)

    async def poll(self) -> dict[TP, int]:
        found = await self._thread._fetch_records(self._consumer, self.active, timeout=0.2)
        return {tp: len(records) for tp, records in found.items()}


async def test_a_poll_takes_some_of_each_partition_however_much_is_there() -> None:
    share = POLL_RECORDS // 2
    there = Fetched({TP0: 3 * share, TP1: share + 1})
    polling = Polling(there)
    assert await polling.poll() == {TP0: share, TP1: share}
    assert await polling.poll() == {TP0: share, TP1: 1}
    assert await polling.poll() == {TP0: share}
    assert set(there.waits) == {0}


async def test_of_many_partitions_a_poll_takes_those_that_waited_longest() -> None:
    many = [TP("in", number) for number in range(20)]
    there = Fetched({tp: 3 * LEAST_RECORDS for tp in many})
    polling = Polling(there)
    polling.active = {*many}
    at_once = POLL_RECORDS // LEAST_RECORDS
    first, second = await polling.poll(), await polling.poll()
    assert {*first.values(), *second.values()} == {LEAST_RECORDS}
    assert len(first) == len(second) == at_once
    assert not first.keys() & second.keys()
    late = next(iter({*many} - first.keys() - second.keys()))
    there._records[late] = 7
    third = await polling.poll()
    assert third[late] == 7
    assert sum(third.values()) < POLL_RECORDS + LEAST_RECORDS


async def test_a_partition_with_few_records_does_not_wait_for_the_backlog_of_many() -> None:
    many = [TP("in", number) for number in range(20)]
    quiet, *busy = many
    there = Fetched({tp: 50 * LEAST_RECORDS for tp in busy} | {quiet: 0})
    polling = Polling(there)
    polling.active = {*many}
    for _ in range(6):
        await polling.poll()
    there._records[quiet] = 3
    assert (await polling.poll())[quiet] == 3


async def test_a_poll_waits_only_if_nothing_is_there() -> None:
    there = Fetched({TP0: 0, TP1: 0})
    polling = Polling(there)
    assert await polling.poll() == {}
    assert there.waits == [0, 0, 0.2]
    polling.active.clear()
    assert await polling.poll() == {}  # not all partitions, as aiokafka would have it
    assert len(there.waits) == 3


async def test_partitions_may_be_taken_away_while_a_poll_waits() -> None:
    there = Fetched({TP0: 5, TP1: 5})
    polling = Polling(there)
    there.meanwhile = polling.active.clear
    assert await polling.poll() == {TP0: 5, TP1: 5}  # Faust drops them: its flow has stopped


async def test_trouble_with_a_partition_does_not_lose_what_another_gave() -> None:
    there = Fetched({TP0: 5, TP1: CorruptRecordException()})
    polling = Polling(there)
    found, raised = 0, 0
    for _ in range(3):
        try:
            found += (await polling.poll()).get(TP0, 0)
        except CorruptRecordException:
            raised += 1
    assert (found, raised) == (5, 1)
    there._records = {TP1: 2}
    assert await polling.poll() == {TP1: 2}


async def test_trouble_with_a_partition_is_forgotten_once_it_has_gone() -> None:
    there = Fetched({TP0: 5})
    polling = Polling(there)
    polling._thread._failed = TP1, CorruptRecordException()
    polling.active.discard(TP1)
    assert await polling.poll() == {TP0: 5}
    polling.active.add(TP1)
    assert await polling.poll() == {}
