"""Outputs and offsets in transactions of a real Kafka: what readers see, who is shut out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from types import SimpleNamespace
from typing import Any

import aiokafka
import pytest
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.sender import AddOffsetsToTxnHandler
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.structs import TopicPartition

from stream_app.core.record import Source
from stream_app.transport.transactions import (
    RETRY_FIRST_S,
    RETRY_LAST_S,
    Transactions,
    Write,
    maker,
    transactional_id,
)
from tests.servers import Kafka, KafkaBroker


class Stage:
    """An input partition, an output topic, and owners of the partition's transactions."""

    def __init__(self, kafka: Kafka) -> None:
        name = f"tx-{uuid.uuid4().hex[:8]}"
        self.kafka, self.group, self.output = kafka, f"{name}.group", f"{name}.out"
        self.source = Source(f"{name}.in", 0)
        kafka.create_topics([self.source.topic, self.output], partitions=1)
        self.connection = {"bootstrap_servers": [kafka.address]}
        self._owners: list[Transactions] = []

    def owner(self, group: str | None = None, source: Source | None = None) -> Transactions:
        make = maker(self.connection, request_timeout_ms=10_000)
        made = Transactions(group or self.group, source or self.source, make)
        self._owners.append(made)
        return made

    async def opened(self) -> Transactions:
        made = self.owner()
        await made.open()
        return made

    def write(self, *values: bytes, topic: str | None = None) -> Write:
        async def into(producer: Any) -> Sequence[Awaitable[Any]]:
            return [await producer.send(topic or self.output, v, partition=0) for v in values]

        return into

    async def committed(self) -> int | None:
        consumer = aiokafka.AIOKafkaConsumer(
            group_id=self.group, enable_auto_commit=False, **self.connection
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(self.source.topic, self.source.partition)])
            found: int | None = await consumer.committed(
                TopicPartition(self.source.topic, self.source.partition)
            )
            return found
        finally:
            await consumer.stop()

    async def seen(self, isolation: str = "read_committed", wait_s: float = 0.5) -> list[bytes]:
        """What a reader of the output gets until nothing more comes for a while."""
        consumer = aiokafka.AIOKafkaConsumer(isolation_level=isolation, **self.connection)
        await consumer.start()
        try:
            place = TopicPartition(self.output, 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            found: list[bytes] = []
            while got := await consumer.getmany(place, timeout_ms=round(wait_s * 1000)):
                found += [record.value for record in got[place]]
            return found
        finally:
            await consumer.stop()

    async def close(self) -> None:
        for owner in self._owners:
            await owner.drop()


@pytest.fixture
async def stage(kafka: Kafka) -> AsyncIterator[Stage]:
    made = Stage(kafka)
    yield made
    await made.close()


def test_an_id_follows_from_group_topic_and_partition_alone_and_is_of_nobody_else() -> None:
    assert transactional_id("g", Source("a", 3)) == "g:a:3"
    ids = {
        transactional_id(group, Source(topic, partition))
        for group in ("g", "g-a", "g:a")
        for topic in ("b", "a-b", "b-1")
        for partition in (0, 1, 10)
    }
    assert len(ids) == 27


async def test_outputs_and_the_offset_of_their_input_are_there_together(stage: Stage) -> None:
    owner = await stage.opened()
    await owner.commit(stage.write(b"a", b"b"), 7)
    assert await stage.seen() == [b"a", b"b"]
    assert await stage.committed() == 7


async def test_records_without_outputs_move_the_offset_too(stage: Stage) -> None:
    owner = await stage.opened()
    await owner.commit(stage.write(), 3)
    await owner.commit(stage.write(), 4)
    assert (await stage.seen(), await stage.committed()) == ([], 4)


async def test_until_all_is_committed_readers_see_nothing_of_it(stage: Stage) -> None:
    owner, inside, go = await stage.opened(), asyncio.Event(), asyncio.Event()

    async def write(producer: Any) -> Sequence[Awaitable[Any]]:
        await (await producer.send(stage.output, b"a", partition=0))
        inside.set()
        await go.wait()
        return []

    committing = asyncio.ensure_future(owner.commit(write, 1))
    await inside.wait()
    assert await stage.seen("read_uncommitted") == [b"a"]
    assert (await stage.seen(), await stage.committed()) == ([], None)
    go.set()
    await committing
    assert (await stage.seen(), await stage.committed()) == ([b"a"], 1)


async def test_one_output_that_is_refused_holds_all_back(stage: Stage) -> None:
    """aiokafka's own commit goes on without it: nobody would miss it."""
    small = f"{stage.output}.small"
    stage.kafka.create_topics([small], partitions=1, config={"max.message.bytes": "1000"})
    owner = await stage.opened()

    async def write(producer: Any) -> Sequence[Awaitable[Any]]:
        good = await producer.send(stage.output, b"good", partition=0)
        return [good, await producer.send(small, b"x" * 5000, partition=0)]

    with pytest.raises(MessageSizeTooLargeError):
        await owner.commit(write, 5)
    await owner.abort()
    assert (await stage.seen(), await stage.committed()) == ([], None)


async def test_one_that_was_begun_ahead_shuts_nobody_out_and_may_be_left(stage: Stage) -> None:
    owner = await stage.opened()
    await owner.begin()
    await owner.begin()  # as once
    await owner.leave()
    await owner.leave()  # nothing is open: nothing happens
    await owner.commit(stage.write(b"a"), 1)
    await owner.begin()
    heir = await stage.opened()  # as after a kill
    await heir.commit(stage.write(b"b"), 2)
    with pytest.raises(KafkaError):
        await owner.commit(stage.write(b"of the zombie"), 3)
    assert (await stage.seen(), await stage.committed()) == ([b"a", b"b"], 2)


async def test_transactions_at_once_after_one_another_are_not_held_by_a_refusal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker refuses offsets while it writes where the last transaction ended."""
    owner = await stage.opened()
    waits: list[float | None] = []
    respond = AddOffsetsToTxnHandler.handle_response

    def noted(handler: AddOffsetsToTxnHandler, answer: Any) -> float | None:
        waits.append(respond(handler, answer))
        assert waits[-1] in (None, handler._default_backoff)
        return waits[-1]

    monkeypatch.setattr(AddOffsetsToTxnHandler, "handle_response", noted)
    for offset in range(1, 21):
        await owner.commit(stage.write(b"a"), offset)
    sender = owner._producer._sender
    assert sender._retry_backoff == RETRY_LAST_S
    assert await sender._find_coordinator(CoordinationType.TRANSACTION, owner.id) >= 0
    assert set(waits) <= {None, *(RETRY_FIRST_S * 2**n for n in range(4)), RETRY_LAST_S}
    assert waits.count(None) == 20
    assert RETRY_FIRST_S in waits, "it was refused at least once: else this shows nothing"


async def test_a_commit_that_is_under_way_may_end() -> None:
    manager = TransactionManager("g:t:0", 1000)
    manager.set_pid_and_epoch(1, 1)
    manager.begin_transaction()
    manager.committing_transaction()
    owner = Transactions("g", Source("t", 0), lambda _: None)
    owner._producer = SimpleNamespace(_txn_manager=manager)
    aborting = asyncio.ensure_future(owner.abort())
    await asyncio.sleep(0.01)
    assert not aborting.done()
    manager.complete_transaction()
    await asyncio.wait_for(aborting, 1)


async def test_who_opens_last_ends_the_transaction_of_the_one_before(stage: Stage) -> None:
    """A worker was killed in the midst of one: readers do not wait for the broker's time-out."""
    killed, inside = await stage.opened(), asyncio.Event()

    async def write(producer: Any) -> Sequence[Awaitable[Any]]:
        await (await producer.send(stage.output, b"of the killed", partition=0))
        inside.set()
        await asyncio.sleep(3600)
        return []

    committing = asyncio.ensure_future(killed.commit(write, 1))
    await inside.wait()
    committing.cancel()
    await asyncio.wait({committing})
    await killed.drop()
    heir = await stage.opened()
    assert await stage.committed() is None
    await heir.commit(stage.write(b"of the heir"), 1)
    assert (await stage.seen(), await stage.committed()) == ([b"of the heir"], 1)


@pytest.mark.parametrize("fenced_after", ["begin", "outputs", "offsets"])
async def test_a_zombie_commits_nothing_wherever_it_was_when_it_was_shut_out(
    stage: Stage, fenced_after: str
) -> None:
    zombie, heirs = await stage.opened(), []

    async def shut_out() -> None:
        heirs.append(await stage.opened())

    async def write(producer: Any) -> Sequence[Awaitable[Any]]:
        if fenced_after == "begin":
            await shut_out()
        sent = await producer.send(stage.output, b"of the zombie", partition=0)
        if fenced_after == "outputs":
            await sent
            await shut_out()
        if fenced_after == "offsets":
            send_offsets = producer.send_offsets_to_transaction

            async def then_shut_out(*given: Any) -> None:
                await send_offsets(*given)
                await shut_out()

            producer.send_offsets_to_transaction = then_shut_out
        return [sent]

    with pytest.raises(KafkaError):
        await zombie.commit(write, 1)
    assert await stage.committed() is None
    await heirs[0].commit(stage.write(b"of the heir"), 1)
    assert await stage.seen() == [b"of the heir"]
    with pytest.raises((KafkaError, AssertionError)):
        await zombie.commit(stage.write(b"again"), 2)
    assert (await stage.seen(), await stage.committed()) == ([b"of the heir"], 1)


async def test_only_one_id_for_a_partition_keeps_a_stranger_from_its_offsets(stage: Stage) -> None:
    """Why ids must not be of workers or of chance: the broker lets any other id commit."""
    owner = await stage.opened()
    await owner.commit(stage.write(b"first"), 5)
    stranger = stage.owner()
    stranger.id = "of a worker"
    await stranger.open()
    await stranger.commit(stage.write(b"doubled"), 2)
    assert await stage.committed() == 2


async def test_each_opening_has_a_newer_epoch(stage: Stage) -> None:
    owner = await stage.opened()
    first = owner.epoch
    await owner.drop()
    assert owner.epoch is None
    await owner.open()
    assert first is not None
    assert owner.epoch == (first[0], first[1] + 1)


async def test_an_abort_lets_readers_go_on_at_once(stage: Stage) -> None:
    owner, later = await stage.opened(), stage.owner(source=Source(stage.source.topic, 1))
    await later.open()

    async def write(producer: Any) -> Sequence[Awaitable[Any]]:
        await (await producer.send(stage.output, b"never", partition=0))
        raise KafkaError("the write broke")

    with pytest.raises(KafkaError):
        await owner.commit(write, 1)
    stage.kafka.create_topics([f"{stage.output}.more"], partitions=1)
    producer = later._producer
    await producer.begin_transaction()
    await producer.send_and_wait(stage.output, b"after it", partition=0)
    await producer.commit_transaction()
    assert await stage.seen() == []  # behind the open transaction
    await owner.abort()
    assert await stage.seen() == [b"after it"]
    await owner.drop()
    await owner.abort()  # nothing is open: nothing happens


@pytest.mark.slow
async def test_a_silent_broker_holds_neither_a_transaction_nor_the_end(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(kafka_broker)
    owner = await stage.opened()
    await owner.commit(stage.write(b"a"), 1)
    monkeypatch.setattr("stream_app.transport.transactions.TRANSACTION_S", 0.5)
    monkeypatch.setattr("stream_app.transport.transactions.ABORT_S", 0.2)
    kafka_broker.pause()
    try:
        with pytest.raises(TimeoutError):
            await owner.commit(stage.write(b"b"), 2)
        async with asyncio.timeout(10):
            await owner.abort()
            await owner.drop()
    finally:
        kafka_broker.resume()
    heir = await stage.opened()
    assert await stage.committed() == 1
    await heir.commit(stage.write(b"c"), 2)
    assert await stage.seen() == [b"a", b"c"]
    await stage.close()


@pytest.mark.slow
async def test_a_silent_broker_is_not_asked_for_long_to_end_an_empty_transaction(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(kafka_broker)
    owner = await stage.opened()
    await owner.begin()
    monkeypatch.setattr("stream_app.transport.transactions.LEAVE_S", 0.3)
    monkeypatch.setattr("stream_app.transport.transactions.TRANSACTION_S", 3600.0)
    kafka_broker.pause()
    try:
        with pytest.raises(TimeoutError):
            await owner.leave()
        await owner.drop()
    finally:
        kafka_broker.resume()
    await (await stage.opened()).commit(stage.write(b"a"), 1)
    assert await stage.seen() == [b"a"]
    await stage.close()


@pytest.mark.slow
async def test_a_broker_that_is_away_holds_no_end_and_leaves_no_task(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's sender looks for a coordinator over a closed client for ever."""
    stage = Stage(kafka_broker)
    owner = await stage.opened()
    await owner.begin()
    tasks = asyncio.all_tasks()
    monkeypatch.setattr("stream_app.transport.transactions.ABORT_S", 1.0)
    kafka_broker.kill()
    try:
        await owner.abort()
        async with asyncio.timeout(0.9):
            await owner.drop()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= tasks
    finally:
        await asyncio.to_thread(kafka_broker.restart)
