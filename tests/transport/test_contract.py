"""Private and undocumented things of Faust, mode and aiokafka that we lean on.

After an upgrade a failure here says, by the name of the test, what would break in the worker.
"""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.types import Int16
from faust.app import base as app_base
from faust.exceptions import ConsumerNotStarted, ImproperlyConfigured
from faust.tables.recovery import Recovery
from faust.transport import conductor
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service, Worker

from stream_app.agents import WAITING_BATCHES, GroupPolicy, make_app
from stream_app.core.ledger import Ledger
from stream_app.core.record import RecordBatch, Source
from stream_app.transport.batches import BatchMessage, BatchSchema
from stream_app.transport.consumer import BatchConsumer
from stream_app.transport.thread import FetchThread
from stream_app.transport.transport import BatchProducer, BatchTransport
from tests.builders import click, records
from tests.transport.fakes import CONNECTION, TP0, TP1, Played, app_in

POLICY = GroupPolicy(
    group="contract",
    input_topics=["a", "b"],
    session_timeout_s=10.0,
    heartbeat_s=3.0,
    commit_interval_s=1.0,
    max_record_bytes=1 << 20,
)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.fixture
def app(tmp_path: Path) -> faust.App:
    return app_in(tmp_path)


@pytest.fixture
async def played(tmp_path: Path) -> Played:
    return Played(tmp_path, {TP0: 0})


def message_of(first: int = 5, count: int = 3) -> BatchMessage:
    of = records(*(click("u1", at_ms=n) for n in range(count)), first=first)
    return BatchMessage(Source(*TP0), of, Ledger(first).deliver(first + count))


class Journal:
    """Notes the names of what is called on it, in order; whatever is asked for can be awaited."""

    def __init__(self, calls: list[str], **attributes: Any) -> None:
        self._calls = calls
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        def call(*_args: object, **_kwargs: object) -> Any:
            self._calls.append(name)
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done

        return call


# -- which class is made: else Faust's own consumer and producer run, record by record


async def test_an_app_makes_its_consumer_and_producer_of_the_transport_that_was_set(
    app: faust.App,
) -> None:
    consumer, producer = app._new_consumer(), app._new_producer()
    consumer._thread.thread_loop.close()
    assert type(app.transport) is BatchTransport
    assert type(consumer) is BatchConsumer
    assert type(producer) is BatchProducer


async def test_the_consumer_makes_its_thread_by_new_consumer_thread(app: faust.App) -> None:
    consumer = app._new_consumer()
    consumer._thread.thread_loop.close()
    assert type(consumer._thread) is FetchThread
    theirs = inspect.getsource(faust_consumer.ThreadDelegateConsumer.__init__)
    assert "self._thread = self._new_consumer_thread()" in theirs


def test_the_thread_makes_its_aiokafka_consumer_by_create_worker_consumer() -> None:
    own = driver.AIOKafkaConsumerThread
    assert parameters(own._create_worker_consumer) == ["self", "transport"]
    assert "_create_worker_consumer(transport)" in inspect.getsource(own._create_consumer)
    assert "_create_consumer(" in inspect.getsource(own.on_start)


async def test_aiokafka_takes_the_settings_of_our_consumer_else_no_worker_starts(
    app: faust.App,
) -> None:
    consumer = app._new_consumer()
    consumer._thread.thread_loop.close()
    made = consumer._thread._create_worker_consumer(app.transport)
    assert made._isolation_level == "read_committed"
    assert made._partition_assignment_strategy == [RangePartitionAssignor]
    assert made._enable_auto_commit is False
    made._closed = True  # never started: nothing to close


async def test_aiokafka_takes_the_settings_of_our_producer_else_no_worker_starts(
    app: faust.App,
) -> None:
    made = app._new_producer()._new_producer()
    assert made._txn_manager is not None  # idempotent
    assert made._txn_manager.transactional_id is None
    made._closed = True


async def test_the_producer_keeps_its_aiokafka_producer_where_the_outbox_looks_for_it(
    app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    inner = Journal(calls)
    monkeypatch.setattr(BatchProducer, "_new_producer", lambda *_: inner)
    producer = app._new_producer()
    await producer.on_start()
    assert producer._producer is inner
    assert calls == ["start"]
    await producer.on_stop()


# -- delivery


def test_faust_reads_records_by_drain_messages_else_none_is_delivered() -> None:
    assert parameters(faust_consumer.Consumer._drain_messages) == ["self", "fetcher"]
    assert "consumer._drain_messages(self)" in inspect.getsource(faust_consumer.Fetcher)


async def test_wait_next_records_gives_lists_of_records_by_partition(played: Played) -> None:
    of = records(click("u1", at_ms=0))
    played.consumer._set_active_tps({TP0})
    played.thread.polls.put_nowait({TP0: of})
    assert await played.consumer._wait_next_records(0.1) == ({TP0: of}, {TP0})


async def test_wait_next_records_waits_while_the_flow_is_stopped_else_we_spin(
    played: Played,
) -> None:
    played.consumer.stop_flow()
    waiting = asyncio.ensure_future(played.consumer._wait_next_records(0.01))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    played.consumer._set_active_tps({TP0})
    played.consumer.resume_flow()
    assert await asyncio.wait_for(waiting, 5) == ({}, {TP0})


def test_wait_next_records_polls_by_getmany_else_partitions_are_read_before_they_run() -> None:
    own = faust_consumer.Consumer
    assert parameters(own._getmany) == ["self", "active_partitions", "timeout"]
    assert "self._getmany(" in inspect.getsource(own._wait_next_records)


def test_the_thread_polls_by_fetch_records_else_a_backlog_is_decoded_at_once() -> None:
    theirs = FetchThread.__base__
    assert theirs is not None
    given = ["self", "consumer", "active_partitions", "timeout", "max_records"]
    assert parameters(theirs._fetch_records) == given
    assert parameters(FetchThread._fetch_records) == given
    assert "self._fetch_records," in inspect.getsource(theirs.getmany)
    assert "self._records.keys()" in inspect.getsource(Fetcher.fetched_records)


async def test_faust_makes_one_message_of_a_whole_batch(played: Played) -> None:
    batch = message_of()
    message = played.consumer._to_message(TP0, batch)
    assert message.value is batch
    assert (message.topic, message.partition, message.offset) == (*TP0, 7)
    assert message.tp == TP0


async def test_a_topic_decodes_by_our_schema_else_agents_get_no_batches(
    app: faust.App, played: Played
) -> None:
    batch = message_of()
    topic = app.topic("shop.events", schema=BatchSchema(), maxsize=4)
    event = await topic.decode(played.consumer._to_message(TP0, batch), propagate=True)
    assert event.value is batch


async def test_streams_can_be_read_without_acks_of_faust(app: faust.App) -> None:
    stream = app.stream(app.channel()).noack()
    assert stream.enable_acks is False
    assert inspect.isasyncgenfunction(faust.Stream.events)


async def test_stopping_the_flow_sets_what_a_blocked_delivery_waits_for(played: Played) -> None:
    consumer = played.consumer
    consumer.stop_flow()
    assert (consumer.flow_active, consumer.suspend_flow.is_set()) == (False, True)
    consumer.resume_flow()
    assert (consumer.flow_active, consumer.suspend_flow.is_set()) == (True, False)
    assert consumer.can_resume_flow.is_set()


async def test_the_places_of_reading_are_unknown_at_first(played: Played) -> None:
    assert played.consumer._read_offset[TP1] is None
    assert played.consumer._committed_offset[TP1] is None


async def test_partitions_are_active_and_paused_in_two_sets(played: Played) -> None:
    consumer = played.consumer
    consumer._set_active_tps({TP0, TP1})
    consumer.pause_partitions({TP1})
    assert (consumer._active_partitions, consumer._paused_partitions) == ({TP0}, {TP1})


def test_the_agent_queue_is_filled_by_the_callback_we_await() -> None:
    made = inspect.getsource(app_base.App._new_consumer)
    assert "callback=self.topics.on_message" in made
    assert "on_partitions_revoked=self._on_partitions_revoked" in made


async def test_few_batches_wait_before_the_agent_else_a_backlog_is_kept_in_memory(
    tmp_path: Path,
) -> None:
    async def process(batch: RecordBatch) -> None:
        raise NotImplementedError

    made = make_app(POLICY, CONNECTION, process, None, str(tmp_path))
    (agent,) = made.agents.values()
    made.flow_control.resume()
    queue = aiter(agent.stream().channel).queue  # the one that the conductor fills
    assert queue.maxsize == WAITING_BATCHES
    filling = [asyncio.ensure_future(queue.put(n)) for n in range(3 * WAITING_BATCHES)]
    await asyncio.sleep(0.01)
    assert queue.qsize() == WAITING_BATCHES
    for one in filling:
        one.cancel()


async def test_a_full_queue_holds_the_delivery_and_no_partition_is_left_out_of_polls(
    played: Played,
) -> None:
    """Faust's way would keep partitions out of polls that were given back meanwhile."""
    assert "if queue.full():" in inspect.getsource(conductor)
    consumer = played.consumer
    consumer._set_active_tps({TP0, TP1})
    consumer.on_buffer_full(TP0)
    consumer.on_buffer_drop(TP0)
    assert (consumer._active_partitions, consumer._buffered_partitions) == ({TP0, TP1}, set())


async def test_the_app_has_what_delivery_and_commits_tell_it(app: faust.App) -> None:
    assert app.consumer_generation_id == 0
    assert (app.crashed, app.should_stop) == (False, False)
    assert parameters(app.monitor.track_tp_end_offset) == ["tp", "offset"]
    assert parameters(app.monitor.on_tp_commit) == ["tp_offsets"]


# -- commits


async def test_faust_commits_by_our_commit_at_the_timer_and_on_trouble() -> None:
    own = faust_consumer.Consumer
    assert "self.commit()" in inspect.getsource(own._commit_handler.fun)
    assert "self.commit()" in inspect.getsource(own.on_task_error)
    assert parameters(own.commit) == ["self", "topics", "start_new_transaction"]


async def test_a_second_commit_waits_for_the_first_and_then_does_nothing(played: Played) -> None:
    consumer = played.consumer
    assert await consumer.maybe_wait_for_commit_to_finish() is False
    consumer._commit_fut = asyncio.get_running_loop().create_future()
    second = asyncio.ensure_future(consumer.maybe_wait_for_commit_to_finish())
    await asyncio.sleep(0.01)
    assert not second.done()
    consumer._commit_fut.set_result(None)
    assert await second is True


def test_the_thread_commits_by_our_method_inside_itself() -> None:
    own = driver.AIOKafkaConsumerThread
    assert parameters(own._commit) == ["self", "offsets"]
    assert "call_thread(self._commit" in inspect.getsource(own.commit)
    assert parameters(own.call_thread)[:2] == ["self", "fun"]
    assert inspect.iscoroutinefunction(own.call_thread)


async def test_before_the_thread_runs_its_consumer_is_missing_with_a_word(app: faust.App) -> None:
    consumer = app._new_consumer()
    consumer._thread.thread_loop.close()
    with pytest.raises(ConsumerNotStarted):
        consumer._thread._ensure_consumer()


def test_a_consumer_asks_its_groups_coordinator_as_we_do() -> None:
    own = GroupCoordinator
    assert "self._coordinator = GroupCoordinator(" in inspect.getsource(aiokafka.AIOKafkaConsumer)
    assert parameters(own._send_req) == ["self", "request"]
    assert inspect.iscoroutinefunction(own._send_req)
    asking = inspect.getsource(own.fetch_committed_offsets)
    assert "await self.ensure_coordinator_known()" in asking
    asked = inspect.getsource(own._do_fetch_commit_offsets)
    assert "OffsetFetchRequest(self.group_id, list(partitions_by_topic.items()))" in asked
    assert "self.coordinator_dead()" in asked
    assert ("error_code", Int16) in zip(
        OffsetFetchResponse_v3.SCHEMA.names, OffsetFetchResponse_v3.SCHEMA.fields, strict=True
    )


async def test_the_watch_for_stuck_messages_asks_our_consumer_else_it_warns_for_ever(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TP] = []
    monkeypatch.setattr(
        BatchConsumer, "verify_event_path", lambda _self, _now, tp: asked.append(tp)
    )
    await played.consumer.verify_all_partitions_active()
    assert asked == [TP0]


# -- rebalance and stop


async def test_when_partitions_are_revoked_flow_stops_queues_clear_and_then_we_drain(
    app: faust.App,
) -> None:
    """Else a cleared batch could still be begun, or wait for room that never comes."""
    calls: list[str] = []
    app.consumer = Journal(calls, assignment=lambda: {TP0})
    app.flow_control = Journal(calls)
    app.tables = Journal([])
    await app._on_partitions_revoked({TP0})
    wanted = [name for name in calls if name in ("stop_flow", "suspend", "clear", "wait_empty")]
    assert wanted == ["stop_flow", "suspend", "clear", "wait_empty"]


async def test_at_a_stop_the_consumer_drains_before_the_app_says_that_it_shuts_down(
    app: faust.App,
) -> None:
    """Else partitions are closed while their groups are still to be acked."""
    calls: list[str] = []
    app.consumer = Journal(calls, assignment=lambda: {TP0})
    app.flow_control = Journal(calls)
    app.tables = Journal([])
    app._fetcher = Journal([], service_reset=lambda: None)

    async def shuts_down(*_: object, **__: object) -> None:
        calls.append("before_shutdown")

    app.on_before_shutdown.connect(shuts_down, weak=False)
    await app.on_stop()
    wanted = [n for n in calls if n in ("stop_flow", "clear", "wait_empty", "before_shutdown")]
    assert wanted == ["stop_flow", "clear", "wait_empty", "before_shutdown"]


async def test_faust_seeks_before_the_flow_goes_on_else_polled_records_are_lost(
    app: faust.App,
) -> None:
    calls: list[str] = []
    app.consumer = Journal(calls, assignment=lambda: {TP0})
    recovery = Recovery(app, app.tables)
    app._fetcher = Journal([])
    await recovery._resume_streams(generation_id=app.consumer_generation_id)
    wanted = [name for name in calls if name in ("perform_seek", "resume_flow")]
    assert wanted == ["perform_seek", "resume_flow"]


async def test_revoking_goes_through_the_callback_of_the_app(played: Played) -> None:
    await played.consumer.on_partitions_revoked({TP0})
    assert played.revoked == [{TP0}]
    assert inspect.iscoroutinefunction(faust_consumer.Consumer.on_partitions_revoked)


# -- the app


async def test_a_web_service_is_registered_as_it_is_and_only_one(app: faust.App) -> None:
    class Web(Service):  # type: ignore[misc]
        pass

    web = Web()
    assert app.web_server(web) is web
    with pytest.raises(ImproperlyConfigured):
        app.web_server(Web())


def test_faust_knows_all_settings_of_our_app(tmp_path: Path) -> None:
    async def process(batch: RecordBatch) -> None:
        raise NotImplementedError

    made = make_app(POLICY, CONNECTION, process, None, str(tmp_path))
    assert made.conf.stream_wait_empty is True
    assert made.conf.broker_session_timeout == 10.0
    assert made.conf.consumer_max_fetch_size == 1 << 20
    assert made.conf.producer_max_request_size == 2 << 20
    assert type(made.transport) is BatchTransport


def test_a_signal_cancels_the_start_that_our_runner_began_else_it_runs_on() -> None:
    assert Worker._starting_fut is None
    assert "maybe_cancel(self._starting_fut)" in inspect.getsource(Worker)


# -- aiokafka's batches


def test_a_full_batch_takes_no_more_and_says_so_by_none() -> None:
    builder = BatchBuilder(200, 0)
    taken = [
        builder.append(timestamp=1, key=b"k", value=b"x" * 50, headers=[]) is not None
        for _ in range(5)
    ]
    assert taken == [True, True, False, False, False]
    assert builder.record_count() == 2


def test_an_empty_batch_takes_one_message_of_any_size() -> None:
    builder = BatchBuilder(200, 0)
    assert builder.append(timestamp=1, key=None, value=b"x" * 5000, headers=[]) is not None
    assert builder.append(timestamp=1, key=None, value=b"x", headers=[]) is None


def test_batches_take_headers_as_a_list_of_pairs_and_a_value_of_none() -> None:
    builder = BatchBuilder(5000, 0)
    headers = [("reason", b"empty"), ("reason", b"twice")]
    assert builder.append(timestamp=1, key=b"k", value=None, headers=headers) is not None


def test_send_batch_and_create_batch_are_there_for_the_outbox() -> None:
    producer = aiokafka.AIOKafkaProducer
    assert parameters(producer.send_batch) == ["self", "batch", "topic", "partition"]
    assert parameters(producer.create_batch) == ["self"]
