"""A poll takes some records of each partition, and tells of trouble without losing any."""

from __future__ import annotations

from collections.abc import Set
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException, KafkaError
from faust.types import TP

from stream_app.transport.thread import POLL_RECORDS, FetchThread
from tests.transport.fakes import TP0, TP1


class Fetched:
    """aiokafka's fetcher: how many records are there of each partition, or what went wrong."""

    _closed = False
    _subscriptions = SimpleNamespace(fetch_context=nullcontext)

    def __init__(self, there: dict[TP, int | KafkaError]) -> None:
        self.there = there
        self.waits: list[float] = []

    async def fetched_records(
        self,
        partitions: Set[TP],
        timeout: float,  # noqa: ASYNC109 aiokafka's
        max_records: int,
    ) -> dict[TP, list[int]]:
        self.waits.append(timeout)
        found: dict[TP, list[int]] = {}
        for tp in self.there.keys() & partitions:
            there = self.there[tp]
            if isinstance(there, KafkaError):
                del self.there[tp]
                raise there
            if taken := min(there, max_records):
                found[tp], self.there[tp] = list(range(taken)), there - taken
        return found


def poll(there: Fetched) -> Any:
    thread = object.__new__(FetchThread)
    thread.consumer = SimpleNamespace(flow_active=True)
    active = {TP0: 0, TP1: 0}.keys()  # in this order
    consumer = SimpleNamespace(_fetcher=there, _closed=False)
    return lambda: thread._fetch_records(consumer, active, timeout=0.2)


async def test_a_poll_takes_some_of_each_partition_however_much_is_there() -> None:
    there = Fetched({TP0: 3 * POLL_RECORDS, TP1: POLL_RECORDS + 1})
    again = poll(there)
    assert [{tp: len(some) for tp, some in (await again()).items()} for _ in range(3)] == [
        {TP0: POLL_RECORDS, TP1: POLL_RECORDS},
        {TP0: POLL_RECORDS, TP1: 1},
        {TP0: POLL_RECORDS},
    ]
    assert set(there.waits) == {0}


async def test_a_poll_waits_only_if_nothing_is_there() -> None:
    there = Fetched({TP0: 0, TP1: 0})
    assert await poll(there)() == {}
    assert there.waits == [0, 0, 0.2]


async def test_trouble_with_a_partition_does_not_lose_what_another_gave() -> None:
    there = Fetched({TP0: 5, TP1: CorruptRecordException()})
    again = poll(there)
    assert len((await again())[TP0]) == 5
    with pytest.raises(CorruptRecordException):
        await again()
    there.there = {TP1: 2}
    assert list(await again()) == [TP1]
