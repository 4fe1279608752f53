"""The composition root: settings, edges and a bundle become a worker, or an offline scorer.

Alone knows every concrete class. Read it top-down: `worker_app` is what runs.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import faust
from redis import Redis

from models.bundle import load as load_bundle
from models.counters.counting import CountingAlone
from models.counters.kept import KeptCounting
from models.encoding import SchemaEncoder
from models.manifest import schema_of
from models.schema import Schema
from models.scorer import BundleScorer
from stream_app.agents import GroupPolicy, make_app
from stream_app.core.context import NOTHING_ASKED, ContextPlan
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.core.ports import EventEncoder, Outbox, Scorer
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.record import Source
from stream_app.core.window import WindowPolicy
from stream_app.edges.group_start import start_at_the_end
from stream_app.edges.kafka_admin import check_group, ensure_topics, largest_record
from stream_app.edges.memory import (
    MemoryAlertLog,
    MemoryCampaigns,
    MemoryContext,
    MemoryOutbox,
    MemoryWindows,
)
from stream_app.edges.metrics import PrometheusMeter
from stream_app.edges.outbox import KafkaOutbox, OutputTopics, TransactionalOutbox
from stream_app.edges.preflight import check_port, check_redis
from stream_app.edges.redis_alerts import RedisAlertLog
from stream_app.edges.redis_campaigns import RedisCampaigns
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_context import RedisContext
from stream_app.edges.redis_state import RedisState
from stream_app.edges.redis_windows import RedisWindows
from stream_app.edges.web import WebPort
from stream_app.monitor import Monitor
from stream_app.offline import OfflineScorer
from stream_app.partition import FlowPolicy
from stream_app.pipeline import Pipeline, Policies
from stream_app.settings import KafkaSettings, RedisSettings, Settings
from stream_app.transport.probe import check_transactions
from stream_app.transport.transactional import TransactionalTransport
from stream_app.transport.transactions import maker
from stream_app.transport.transport import BatchTransport

REDIS_THREADS = 4


class Outputs(NamedTuple):
    """What the output topics are like."""

    partitions: Mapping[Output, int]
    most_bytes: int  # of an input record that fits all of them, with the headers that we add
    inputs: int = 1  # partitions of the input topics, together


class PreparedWorker(NamedTuple):
    """A worker that has found everything in place and waits to be run."""

    app: faust.App
    summary: str  # for people: model, device, topics


def prepared_worker(settings: Settings) -> PreparedWorker:
    """Load the bundle, look for Kafka, its topics and Redis, wire all together.

    Raises Misconfigured, BadBundle: each says what is wrong and what to do.
    """
    schema = schema_of(settings.scorer.bundle, settings.scorer.trusted_keys)
    width = 1 if schema.counters else settings.kafka.partitions
    found = asyncio.run(_look_around(settings, width))
    if schema.counters and found.inputs > 1:
        raise Misconfigured(split_counters(schema, found.inputs))
    scorer, encoder = load_scorer(settings)
    summary = (
        f"{scorer.version} on {scorer.device}, "
        f"{', '.join(settings.kafka.input_topics)} -> {settings.kafka.output_prefix}*"
    )
    return PreparedWorker(
        worker_app(settings, scorer, encoder, found, schema.window, schema.context, schema), summary
    )


def split_counters(schema: Schema, partitions: int) -> str:
    """Why no worker serves a model with counters where events come in so many partitions."""
    return (
        f"the model reads counters of all that went before (schema {schema.name!r}), so all events "
        f"have to come in one partition of one topic, and here they come in {partitions}; Kafka "
        "takes no partition away: have them sent to another topic that has one "
        "(kafka.input_topics), or train a model without `counters` in its schema"
    )


def load_scorer(settings: Settings, likelihood: bool = False) -> tuple[BundleScorer, SchemaEncoder]:
    """The bundle on its device; `likelihood` of every window, not of the anomalous ones alone.

    Raises BadBundle, Misconfigured.
    """
    chosen = settings.scorer
    bundle = load_bundle(chosen.bundle, chosen.device, chosen.members, chosen.trusted_keys)
    # Offline scoring without a GPU may have the settings of a worker with one.
    plain = likelihood and bundle.device.type == "cpu"
    precision = "bf16" if plain else chosen.precision
    scorer = BundleScorer(
        bundle, threads=chosen.threads, likelihood=likelihood, precision=precision
    )
    return scorer, SchemaEncoder(bundle.schema)


def offline_scorer(settings: Settings) -> OfflineScorer:
    """The same pipeline over edges in memory."""
    scorer, encoder = load_scorer(settings, likelihood=True)
    limits = _policies(settings, encoder.schema.window)
    pipeline = Pipeline(
        encoder,
        MemoryWindows(encoder.row, limits.window),
        scorer,
        MemoryAlertLog(limits.alerts),
        MemoryOutbox(),
        limits,
        context=MemoryContext(encoder.schema.context),
        campaigns=MemoryCampaigns(settings.campaigns.policy()),
        counters=CountingAlone(encoder.schema),
    )
    return OfflineScorer(pipeline, scorer.tasks.names)


def worker_app(
    settings: Settings,
    scorer: Scorer,
    encoder: EventEncoder,
    outputs: Outputs,
    learnt: WindowPolicy,
    asked: ContextPlan = NOTHING_ASKED,
    counted: Schema | None = None,
) -> faust.App:
    """The Faust app that takes the input topics to the output topics. `learnt`, `asked` and
    `counted` are the model's: how long its windows are, what it reads of the site's side, and whose
    counters, if it has any.
    """
    executor = ThreadPoolExecutor(REDIS_THREADS, "redis")
    redis = _redis(settings.redis)
    limits, prefix = _policies(settings, learnt), settings.redis.prefix
    topics = OutputTopics(settings.kafka.outputs(), outputs.partitions)
    outbox: Outbox
    if settings.kafka.delivery == "exactly-once":
        transport: type[BatchTransport] = TransactionalTransport
        outbox = TransactionalOutbox(lambda source: app.consumer.lane(source), topics)
    else:
        transport = BatchTransport
        outbox = KafkaOutbox(lambda: app.producer._producer, topics)
    context = RedisContext(redis, prefix, asked, executor=executor) if asked else None
    counters = None
    if counted is not None and counted.counters:
        counters = KeptCounting(counted, RedisState(redis, prefix, executor=executor))
    pipeline = Pipeline(
        encoder,
        RedisWindows(redis, prefix, encoder.row, limits.window, executor=executor),
        scorer,
        RedisAlertLog(redis, prefix, limits.alerts, executor=executor),
        outbox,
        limits,
        outputs.most_bytes,
        context,
        RedisCampaigns(redis, prefix, settings.campaigns.policy(), executor=executor),
        counters,
    )
    folder = tempfile.mkdtemp(prefix="shopsentry-")  # Faust wants one; nothing is kept in it
    meter, token = PrometheusMeter(), settings.web.token
    monitor = Monitor(pipeline, _flow(settings), meter, scorer)
    app = make_app(
        _group(settings.kafka),
        settings.kafka.aiokafka(),
        monitor.process,
        WebPort(
            settings.web.host,
            settings.web.port,
            monitor.health,
            monitor.metrics,
            token.get_secret_value() if token else None,
        ),
        folder,
        transport,
    )

    def begins(source: Source) -> None:
        if context is not None:
            context.begins(source.partition)
        if counters is not None:
            counters.begins(source)

    app.transport.begins = begins
    monitor.attach(lambda: app.consumer, app.crash)

    async def close(*_: object, **__: object) -> None:
        await monitor.close()
        await asyncio.to_thread(scorer.close)
        executor.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)

    app.on_before_shutdown.connect(close, weak=False)
    return app


async def _look_around(settings: Settings, width: int) -> Outputs:
    """The output topics; Redis and the web port are there, and Kafka delivers as it is asked to.
    Input topics that we make get `width` partitions.

    Raises Misconfigured.
    """
    kafka, outputs = settings.kafka, settings.kafka.outputs()
    check_port(settings.web.host, settings.web.port)
    await check_redis(_redis(settings.redis), settings.redis.shown_url)
    counts = await ensure_topics(
        kafka.aiokafka(),
        kafka.input_topics,
        outputs,
        create=kafka.create_topics,
        partitions=width,
        replication=kafka.replication,
        max_record_bytes=kafka.max_record_bytes,
    )
    await check_group(kafka.aiokafka(), kafka.group, kafka.input_topics[0])
    if kafka.auto_offset_reset == "latest":
        await asyncio.to_thread(
            start_at_the_end, kafka.librdkafka(), kafka.group, kafka.input_topics
        )
    if kafka.delivery == "exactly-once":
        await check_transactions(kafka.group, maker(kafka.aiokafka()))
    largest = await largest_record(kafka.aiokafka(), outputs.values(), kafka.max_record_bytes)
    inputs = sum(counts[name] for name in kafka.input_topics)
    return Outputs({output: counts[name] for output, name in outputs.items()}, largest, inputs)


def _redis(redis: RedisSettings) -> Redis:
    return connect(
        redis.url.get_secret_value(),
        timeout_s=redis.timeout_s,
        connect_timeout_s=redis.connect_timeout_s,
    )


def _policies(settings: Settings, learnt: WindowPolicy) -> Policies:
    privacy = settings.privacy
    # Without a key, lines of one process can still be told to be of one user.
    names = privacy.pseudonyms() or Pseudonyms(secrets.token_bytes())
    return Policies(
        settings.window.policy(learnt), settings.alerts.policy(), names, privacy.outputs
    )


def _flow(settings: Settings) -> FlowPolicy:
    flow = settings.flow
    return FlowPolicy(
        group_records=flow.group_records,
        group_target_s=flow.group_target_s,
        in_flight=flow.in_flight,
        waiting_records=flow.waiting_records,
        coalesce_behind=flow.coalesce_behind,
    )


def _group(kafka: KafkaSettings) -> GroupPolicy:
    return GroupPolicy(
        group=kafka.group,
        input_topics=kafka.input_topics,
        session_timeout_s=kafka.session_timeout_s,
        heartbeat_s=kafka.heartbeat_s,
        commit_interval_s=kafka.commit_interval_s,
        max_record_bytes=kafka.max_record_bytes,
    )
