"""A worker of our own agents over a real Kafka, with everything else in memory.

    python -m tests.transport.worker NAME ADDRESS GROUP INPUT PREFIX FOLDER [exactly-once]

Scoring takes a while, so that whenever the worker is stopped, groups are under way; exactly once,
transactions do too, so that it is stopped in the midst of one.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import faust

from stream_app.agents import GroupPolicy, make_app
from stream_app.core.outcome import Output
from stream_app.core.ports import Outbox
from stream_app.core.score import Scores
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, Windows
from stream_app.edges.memory import FixedScorer
from stream_app.edges.metrics import PrometheusMeter
from stream_app.edges.outbox import Deliveries, KafkaOutbox, OutputTopics, TransactionalOutbox
from stream_app.monitor import Monitor
from stream_app.partition import FlowPolicy
from stream_app.transport.transactional import TransactionalTransport
from stream_app.transport.transport import BatchTransport
from tests.builders import TASKS, THRESHOLDS, Desk, scores_as_told

PARTITIONS = 4
SCORING_S = 0.05
HOLD_S = 0.1
SESSION_S = 6.0  # the least that brokers allow by default


class SlowScorer(FixedScorer):
    def __init__(self, name: str) -> None:
        super().__init__(TASKS, THRESHOLDS, scores_as_told)
        self.version = name  # so the outputs tell who wrote them

    async def score(self, windows: Windows, tasks: Ints) -> Scores:
        await asyncio.sleep(SCORING_S)
        return await super().score(windows, tasks)


class SlowTopics(OutputTopics):
    """Holds transactions open, with their outputs written."""

    async def send(self, *given: Any) -> Deliveries:
        deliveries = await super().send(*given)
        await all_ended(deliveries)
        await asyncio.sleep(HOLD_S)
        return deliveries


def main(
    name: str, address: str, group: str, topic: str, prefix: str, folder: str, delivery: str = ""
) -> None:
    names = {output: f"{prefix}{output}" for output in Output}
    places = dict.fromkeys(Output, PARTITIONS)
    scorer = SlowScorer(name)
    transport: type[BatchTransport] = BatchTransport
    outbox: Outbox = KafkaOutbox(lambda: app.producer._producer, OutputTopics(names, places))
    if delivery == "exactly-once":
        transport = TransactionalTransport
        outbox = TransactionalOutbox(
            lambda source: app.consumer.lane(source), SlowTopics(names, places)
        )
    pipeline = Desk(scorer=scorer, outbox=outbox).pipeline
    monitor = Monitor(pipeline, FlowPolicy(group_records=32), PrometheusMeter(), scorer)
    policy = GroupPolicy(
        group=group,
        input_topics=[topic],
        session_timeout_s=SESSION_S,
        heartbeat_s=0.5,
        commit_interval_s=0.2,
        max_record_bytes=1 << 20,
    )
    app = make_app(
        policy, {"bootstrap_servers": [address]}, monitor.process, None, folder, transport
    )
    monitor.attach(lambda: app.consumer, app.crash)

    async def close(*_: object, **__: object) -> None:
        await monitor.close()

    app.on_before_shutdown.connect(close, weak=False)
    faust.Worker(app, loglevel="INFO").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
