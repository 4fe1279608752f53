"""The consumer in exactly-once delivery: who is polled, what is delivered, who commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka.producer.message_accumulator import MessageBatch

import stream_app.transport.lane
import stream_app.transport.transactional
from stream_app.core.errors import OutputsWithdrawn
from stream_app.core.record import Source, StoredRecord
from stream_app.transport.consumer import BATCH_RECORDS
from stream_app.transport.lane import State
from stream_app.transport.transactional import (
    NoCommitThread,
    TransactionalConsumer,
    TransactionalTransport,
)
from stream_app.transport.transactions import close_at_once
from tests.builders import click, records
from tests.transport.fakes import CONNECTION, TP0, TP1, Played, PlayedFetcher

FIRST = Source(*TP0)


class PlayedTransactions:
    """Stands for `Transactions`: opens when the test says so, commits into the played thread."""

    opening: asyncio.Event
    troubles: list[Exception]
    played: Played

    def __init__(self, group: str, source: Source, make: object) -> None:
        self.id, self.source = f"{group}:{source.topic}:{source.partition}", source
        self.epoch = (1, 0)

    async def open(self) -> None:
        await self.opening.wait()
        self.epoch = (1, self.epoch[1] + 1)

    async def begin(self) -> None: ...

    async def commit(self, write: Callable[[Any], Awaitable[Any]], next_offset: int) -> None:
        await write(None)
        if self.troubles:
            raise self.troubles.pop()
        self.played.thread.starts[type(TP0)(self.source.topic, self.source.partition)] = next_offset

    async def abort(self) -> None: ...

    async def drop(self) -> None: ...


@pytest.fixture
async def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Played]:
    """Two partitions are assigned, with 10 and 0 committed; not opened yet."""
    PlayedTransactions.opening, PlayedTransactions.troubles = asyncio.Event(), []
    monkeypatch.setattr(stream_app.transport.transactional, "Transactions", PlayedTransactions)
    monkeypatch.setattr(stream_app.transport.lane, "PAUSE_S", 0.001)
    made = PlayedTransactions.played = Played(tmp_path, {TP0: 10, TP1: 0}, TransactionalTransport)
    await made.assign()
    fetcher = PlayedFetcher()
    draining = asyncio.ensure_future(made.consumer._drain_messages(fetcher))
    yield made
    fetcher._stopped.set()
    made.consumer.resume_flow()
    made.room.set()
    await asyncio.wait_for(draining, 5)
    await consumer_of(made)._close_lanes()


def consumer_of(played: Played) -> TransactionalConsumer:
    assert isinstance(played.consumer, TransactionalConsumer)
    return played.consumer


def run(first: int, count: int, source: Source = FIRST) -> list[StoredRecord]:
    return records(*(click("u1", at_ms=n) for n in range(count)), first=first, source=source)


async def nothing(_producer: object) -> Sequence[Awaitable[Any]]:
    return []


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for knows nothing of tests
            await asyncio.sleep(0.001)


async def running(played: Played) -> TransactionalConsumer:
    PlayedTransactions.opening.set()
    consumer = consumer_of(played)
    await until(lambda: all(lane.state is State.RUNNING for lane in consumer._lanes.values()))
    return consumer


def firsts(played: Played) -> list[int]:
    return [batch.records[0].offset for batch in played.delivered]


async def test_before_it_is_open_a_partition_is_not_read_but_its_commit_is_known(
    played: Played,
) -> None:
    """Else windows would forget records of one topic while another is being opened."""
    await asyncio.sleep(0.05)
    assert not played.thread.polling.is_set()
    consumer = consumer_of(played)
    assert [consumer.committed(s) for s in (FIRST, Source(*TP1))] == [10, 0]
    with pytest.raises(OutputsWithdrawn):
        consumer.lane(FIRST).submit(nothing, 12)


async def test_it_reads_from_what_was_committed_until_it_was_open(played: Played) -> None:
    played.thread.starts[TP0] = 14  # the owner before us, up to its end
    consumer = await running(played)
    assert (consumer.committed(FIRST), consumer.lane(FIRST).committed) == (14, 14)
    played.thread.polls.put_nowait({TP0: run(10, 6)})
    await until(lambda: played.delivered)
    assert firsts(played) == [14]


async def test_commits_only_note_what_transactions_committed(played: Played) -> None:
    consumer = await running(played)
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    await consumer.lane(FIRST).submit(nothing, 12)
    played.delivered[0].delivery.ack()
    assert await consumer.commit()
    assert consumer.committed(FIRST) == 12
    assert played.thread.commits == []


async def test_an_ack_without_its_transaction_is_a_defect(played: Played) -> None:
    consumer = await running(played)
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    played.delivered[0].delivery.ack()
    with pytest.raises(AssertionError, match="acked, but not committed"):
        await consumer.commit()


async def test_the_thread_commits_for_nobody() -> None:
    with pytest.raises(AssertionError, match="transactions alone"):
        await NoCommitThread._commit(object.__new__(NoCommitThread), {TP0: 1})


async def test_after_a_recovery_nothing_is_left_out_of_what_was_polled_before(
    played: Played,
) -> None:
    """The rest of an old poll would be delivered over a gap, and the gap be committed."""
    consumer = await running(played)
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: len(played.delivered) == 1)
    played.room.clear()
    played.thread.polls.put_nowait({TP0: run(12, BATCH_RECORDS + 5)})
    await asyncio.sleep(0.02)  # the next delivery waits for room, another one behind it
    PlayedTransactions.troubles.append(TimeoutError())
    with pytest.raises(OutputsWithdrawn):
        await consumer.lane(FIRST).submit(nothing, 12)
    await until(lambda: consumer.lane(FIRST).state is State.RUNNING)
    played.room.set()
    await until(lambda: len(played.delivered) == 2)
    await asyncio.sleep(0.02)
    assert all(batch.delivery.stale for batch in played.delivered)
    played.thread.polls.put_nowait({TP0: run(10, 20)})
    await until(lambda: len(played.delivered) == 3)
    assert firsts(played) == [10, 12, 10]
    assert not played.delivered[2].delivery.stale


async def test_revoking_lets_submitted_transactions_end_and_closes_every_lane(
    played: Played,
) -> None:
    consumer = await running(played)
    lane = consumer.lane(FIRST)
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    published = played.delivered[0].delivery
    published.publish()
    submitted = lane.submit(nothing, 12)
    revoking = asyncio.ensure_future(consumer.on_partitions_revoked({TP0, TP1}))
    await until(lambda: lane.state is State.DRAINING)
    with pytest.raises(OutputsWithdrawn):
        lane.submit(nothing, 14)
    await submitted
    published.ack()
    await asyncio.wait_for(revoking, 5)
    assert lane.state is State.REVOKED
    assert (lane.committed, played.thread.starts[TP0]) == (12, 12)
    with pytest.raises(OutputsWithdrawn):
        consumer.lane(FIRST)


async def test_an_assignment_without_a_revocation_leaves_no_old_lane(played: Played) -> None:
    old = (await running(played)).lane(FIRST)
    await played.assign()
    assert old.state is State.REVOKED
    assert consumer_of(played).lane(FIRST) is not old


# -- what we lean on in aiokafka


async def test_a_producer_has_what_closing_it_at_once_touches() -> None:
    producer = aiokafka.AIOKafkaProducer(transactional_id="x", **CONNECTION)
    assert producer._sender.sender_task is None
    assert producer._txn_manager._transaction_waiter is None
    assert (producer._txn_manager.producer_id, producer._txn_manager.producer_epoch) == (-1, -1)
    assert not producer._txn_manager.is_in_transaction()
    assert dict(producer._message_accumulator._batches) == {}
    assert "_drain_waiter" in MessageBatch.__init__.__code__.co_names
    await close_at_once(producer)
    assert producer._closed
