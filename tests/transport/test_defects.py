"""Defects of Faust and aiokafka that were met, and what keeps each from biting us.

`DEFECTS` is the list; a test that it names must exist.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaTimeoutError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer import message_accumulator
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata, TopicPartition

import stream_app.transport.thread
import stream_app.transport.transactions
from stream_app.core.outcome import Message, Output
from stream_app.core.record import Source
from stream_app.edges import outbox
from stream_app.edges.outbox import OutputTopics
from stream_app.transport.thread import committed_offset
from stream_app.transport.transactions import Transactions
from tests.builders import click, records
from tests.transport.fakes import TP0, TP1, Played, PlayedFetcher, app_in

HERE = Path(__file__).resolve().parent
DEFECTS = {
    "aiokafka commits a transaction although a send failed": (
        "test_one_output_that_is_refused_holds_all_back",
    ),
    "aiokafka's seek_to_committed does not move a partition without commit": (
        "test_aiokafka_still_does_not_seek_without_a_commit",
        "test_a_partition_without_commit_is_read_from_its_beginning",
    ),
    "aiokafka takes a coordinator that is loading for a group without offsets": (
        "test_aiokafka_still_takes_a_loading_coordinator_for_a_group_without_offsets",
        "test_a_coordinator_that_is_loading_is_asked_again",
    ),
    "acks known by offset alone: a late one acks what came again": (
        "test_a_late_ack_after_a_rebalance_commits_nothing_of_what_came_again",
    ),
    "Faust crashes the app on an error of a commit": (
        "test_a_commit_that_kafka_refuses_is_no_crash",
    ),
    "Faust notes an offset as committed though the commit failed": (
        "test_a_commit_that_failed_is_tried_again",
    ),
    "a commit does nothing while another is in flight, also the last one of a drain": (
        "test_a_drain_commits_again_after_a_commit_that_was_under_way",
    ),
    "a put into a full queue lands after the queue was cleared": (
        "test_a_full_queue_does_not_hold_up_a_rebalance",
        "test_a_drain_waits_for_what_is_published_and_drops_all_else",
    ),
    "Faust forgets the maxsize of a topic, and lets 4,096 messages wait": (
        "test_few_batches_wait_before_the_agent_else_a_backlog_is_kept_in_memory",
    ),
    "Faust's wait_empty has no deadline": ("test_draining_has_an_end_even_if_an_ack_never_comes",),
    "Faust's transactional id is of the output partition here, of the input's there": (
        "test_an_id_follows_from_group_topic_and_partition_alone_and_is_of_nobody_else",
    ),
    "Faust swallows errors of begin and commit": (
        "test_errors_of_a_transaction_come_out_wherever_they_are",
    ),
    "aiokafka asks for ever for an unknown partition": (
        "test_a_transaction_that_hangs_has_an_end",
    ),
    "offsets sent beside outputs are refused by brokers since 3.6": (
        "test_offsets_go_after_the_outputs_are_confirmed_and_are_of_one_partition",
    ),
    "aiokafka consumes the offsets in place: a retry of several partitions fails": (
        "test_offsets_go_after_the_outputs_are_confirmed_and_are_of_one_partition",
        "test_after_any_error_all_is_taken_back_and_begun_anew_from_the_truth",
    ),
    "aiokafka counts a wait for room again for each batch that is let in before": (
        "test_aiokafka_still_counts_a_wait_for_room_twice",
        "test_outputs_that_wait_for_room_have_all_their_time",
    ),
    "aiokafka's stop flushes, and hangs while the broker is down": (
        "test_a_silent_broker_holds_neither_a_transaction_nor_the_end",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_has_its_tests(defect: str) -> None:
    there = {
        node.name
        for folder in (HERE, HERE.parent / "core")
        for path in folder.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set(DEFECTS[defect]) <= there


# -- outputs


class Room:
    """An aiokafka producer with room for one batch of a partition, and a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr(message_accumulator, "time", clock)
        self._accumulator = MessageAccumulator(None, 1000, 0, 60)

    def create_batch(self) -> Any:
        return self._accumulator.create_builder()

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        return await self._accumulator.add_batch(batch, TopicPartition(topic, partition), 60)

    async def let_in(self, at_s: float) -> None:
        """The batch that waits is sent at this time: there is room for the next one."""
        self.now_s = at_s
        self._accumulator._pop_batch(TopicPartition("cleaned", 0))
        for _ in range(10):
            await asyncio.sleep(0)


async def test_aiokafka_still_counts_a_wait_for_room_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, `outbox._queued` can go."""
    room = Room(monkeypatch)
    batches = [room.send_batch(room.create_batch(), "cleaned", partition=0) for _ in range(3)]
    waiting = [asyncio.create_task(one) for one in batches]
    await asyncio.sleep(0)
    await room.let_in(31)
    await room.let_in(32)
    assert [task.done() for task in waiting] == [True, True, True]
    with pytest.raises(KafkaTimeoutError):  # after 32 s of 60
        await waiting[2]


async def test_outputs_that_wait_for_room_have_all_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, message = Room(monkeypatch), Message(b"u", b"{}", 0, [])
    topics = OutputTopics({Output.CLEANED: "cleaned"}, {Output.CLEANED: 1})
    waiting = [
        asyncio.create_task(topics.send(room, partition, {Output.CLEANED: [message]}))
        for partition in range(4)
    ]
    await asyncio.sleep(0)
    for at_s in (31, 32, 33):
        await room.let_in(at_s)
    assert [len(await task) for task in waiting] == [1, 1, 1, 1]


async def test_outputs_without_room_are_refused_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, message = Room(monkeypatch), Message(b"u", b"{}", 0, [])
    monkeypatch.setattr(outbox, "ROOM_S", 0.02)
    topics = OutputTopics({Output.CLEANED: "cleaned"}, {Output.CLEANED: 1})
    await topics.send(room, 0, {Output.CLEANED: [message]})
    with pytest.raises(KafkaTimeoutError, match="no room for cleaned"):
        await topics.send(room, 0, {Output.CLEANED: [message]})


# -- seeking and commits


async def test_aiokafka_still_does_not_seek_without_a_commit() -> None:
    """When this fails, `FetchThread._seek_to_start` can become shorter."""
    sought: list[object] = []

    partition = TopicPartition(*TP0)
    consumer = SimpleNamespace(
        _subscription=SimpleNamespace(assigned_partitions=lambda: {partition}),
        _fetcher=SimpleNamespace(seek_to=lambda *place: sought.append(place)),
        committed=lambda _: _nothing(),
    )
    await AIOKafkaConsumer.seek_to_committed(consumer, partition)
    assert sought == []


async def _nothing() -> None:
    return None


LOADING, MOVED, FORBIDDEN = 14, 16, 30  # Kafka's error codes


class Coordinator:
    """A group's coordinator: the first of two partitions has a commit; first it has `errors`."""

    group_id = "g"

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.looked_for = 0

    async def ensure_coordinator_known(self) -> None:
        pass

    def coordinator_dead(self) -> None:
        self.looked_for += 1

    async def _send_req(self, request: OffsetFetchRequest) -> OffsetFetchResponse_v3:
        if self.errors:
            return OffsetFetchResponse_v3(0, [], self.errors.pop(0))  # as Kafka 4.1 answers
        (topic, numbers), *_ = request._partitions
        told = [(number, 7 if number == 0 else -1, "", 0) for number in numbers]
        return OffsetFetchResponse_v3(0, [(topic, told)], 0)


async def test_aiokafka_still_takes_a_loading_coordinator_for_a_group_without_offsets() -> None:
    """When this fails, `committed_offset` can go."""
    fetch = GroupCoordinator._do_fetch_commit_offsets
    partition = TopicPartition(*TP0)
    assert await fetch(Coordinator(LOADING), [partition]) == {}
    assert (await fetch(Coordinator(), [partition]))[partition].offset == 7


async def test_a_coordinator_that_is_loading_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else all of the partition would come again after a restart of the broker."""
    monkeypatch.setattr(stream_app.transport.thread, "PAUSE_S", 0.0)
    for errors, looked_for in (((LOADING, LOADING), 0), ((MOVED, LOADING, MOVED), 2)):
        coordinator = Coordinator(*errors)
        assert await committed_offset(coordinator, TopicPartition(*TP0)) == 7
        assert (coordinator.errors, coordinator.looked_for) == ([], looked_for)
    assert await committed_offset(Coordinator(), TopicPartition(*TP1)) is None
    with pytest.raises(GroupAuthorizationFailedError):
        await committed_offset(Coordinator(FORBIDDEN), TopicPartition(*TP0))


class Consumer:
    """An aiokafka consumer: two partitions, the first has a commit."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sought: list[tuple[int, int]] = []
        self.error = error
        self._coordinator = Coordinator()

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(*TP0), TopicPartition(*TP1)}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 3)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought.append((partition.partition, offset))

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if self.error:
            raise self.error


@pytest.mark.parametrize("reset", ["earliest", "latest"])
async def test_a_partition_without_commit_is_read_from_its_beginning(
    tmp_path: Path, reset: str
) -> None:
    """Whatever new groups are asked to do: the one before us may have read some of it."""
    app = app_in(tmp_path)
    app.conf.consumer_auto_offset_reset = reset
    thread = app._new_consumer()._thread
    thread.thread_loop.close()
    thread._consumer = consumer = Consumer()
    assert await thread._seek_to_start([TP0, TP1]) == {TP0: 7, TP1: 3}
    assert consumer.sought == [(0, 7), (1, 3)]


async def test_a_commit_that_kafka_refuses_is_no_crash(tmp_path: Path) -> None:
    thread = app_in(tmp_path)._new_consumer()._thread
    thread.thread_loop.close()
    thread._consumer = Consumer(KafkaConnectionError("it is away"))
    assert await thread._commit({TP0: 9}) is False
    thread._consumer = Consumer()
    assert await thread._commit({TP0: 9}) is True


async def test_a_drain_commits_again_after_a_commit_that_was_under_way(tmp_path: Path) -> None:
    played = Played(tmp_path, {TP0: 0})
    draining = asyncio.ensure_future(played.consumer._drain_messages(PlayedFetcher()))
    await played.assign()
    played.thread.polls.put_nowait({TP0: records(click("u1", at_ms=0), first=0)})
    await played.thread.polling.wait()
    await asyncio.sleep(0.05)
    delivery = played.delivered[0].delivery
    delivery.publish()
    delivery.ack()
    played.consumer._commit_fut = asyncio.get_running_loop().create_future()  # the timer's
    revoking = asyncio.ensure_future(played.consumer.on_partitions_revoked({TP0}))
    await asyncio.sleep(0.05)
    assert played.thread.commits == []
    timers, played.consumer._commit_fut = played.consumer._commit_fut, None
    timers.set_result(None)
    await asyncio.wait_for(revoking, 5)
    assert played.thread.commits == [{TP0: 1}]
    draining.cancel()
    await asyncio.wait({draining})


# -- transactions


class Producer:
    """An aiokafka producer that notes what it is asked for, and fails or hangs where it is told."""

    def __init__(self, fails: str = "", hangs: str = "") -> None:
        self.calls: list[str] = []
        self.offsets: Mapping[TopicPartition, OffsetAndMetadata] = {}
        self._fails, self._hangs = fails, hangs
        self._txn_manager = SimpleNamespace(is_in_transaction=lambda: False)
        self._sender = self

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._fails:
            raise UnknownTopicOrPartitionError(name)
        if name == self._hangs:
            await asyncio.Event().wait()

    async def start(self) -> None:
        await self._call("start")

    async def begin_transaction(self) -> None:
        await self._call("begin")
        self._txn_manager.is_in_transaction = lambda: True

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: str
    ) -> None:
        self.offsets = offsets
        await self._call("offsets")

    async def commit_transaction(self) -> None:
        await self._call("commit")


class Announcing(Transactions):
    async def _announce_offsets(self, sender: Any) -> None:
        await sender._call("announce")


async def committed(producer: Producer) -> None:
    transactions = Announcing("g", Source(*TP0), lambda _: producer)
    await transactions.open()

    async def write(_: Any) -> list[Awaitable[None]]:
        async def confirm() -> None:
            await asyncio.sleep(0)
            await producer._call("confirmed")

        await producer._call("outputs")
        return [confirm()]

    await transactions.commit(write, 5)


async def test_offsets_go_after_the_outputs_are_confirmed_and_are_of_one_partition() -> None:
    producer = Producer()
    await committed(producer)
    before = ["start", "begin", "announce", "outputs", "confirmed"]
    assert producer.calls == [*before, "offsets", "commit"]
    assert producer.offsets == {TopicPartition(*TP0): OffsetAndMetadata(5, "")}


@pytest.mark.parametrize(
    "fails", ["begin", "announce", "outputs", "confirmed", "offsets", "commit"]
)
async def test_errors_of_a_transaction_come_out_wherever_they_are(fails: str) -> None:
    producer = Producer(fails=fails)
    with pytest.raises(UnknownTopicOrPartitionError):
        await committed(producer)
    assert producer.calls[-1] == fails  # and nothing is asked for after it


@pytest.mark.parametrize("hangs", ["begin", "announce", "confirmed", "offsets", "commit"])
async def test_a_transaction_that_hangs_has_an_end(
    hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_app.transport.transactions, "TRANSACTION_S", 0.05)
    with pytest.raises(TimeoutError):
        await committed(Producer(hangs=hangs))
