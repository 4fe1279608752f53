"""The Faust app and its agent: a record batch in, `process`, nothing else.

Acks do not go through Faust: `process` acks deliveries, and the consumer commits the prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
from mode import Service
from msgspec import Struct

from stream_app.core.record import RecordBatch
from stream_app.transport.batches import BatchSchema
from stream_app.transport.transport import BatchTransport

WAITING_BATCHES = 8  # before the agent, of all partitions; a partition bounds records itself


class GroupPolicy(Struct, frozen=True, kw_only=True):
    """How the worker takes part in its consumer group."""

    group: str
    input_topics: Sequence[str]
    session_timeout_s: float
    heartbeat_s: float
    commit_interval_s: float
    max_record_bytes: int


def make_app(
    policy: GroupPolicy,
    connection: Mapping[str, Any],
    process: Callable[[RecordBatch], Awaitable[None]],
    web: Service | None,
    data_folder: str,
    transport: type[BatchTransport] = BatchTransport,
) -> faust.App:
    """An app that hands every record batch of the input topics to `process`.

    `connection`: as any aiokafka client takes it. `web`: a service that Faust starts and stops.
    `transport`: who commits the offsets, and when.
    """
    app = faust.App(
        policy.group,
        broker=[f"kafka://{host}" for host in connection["bootstrap_servers"]],
        datadir=data_folder,
        web_enabled=web is not None,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_max_fetch_size=max(1 << 20, policy.max_record_bytes),
        broker_session_timeout=policy.session_timeout_s,
        broker_rebalance_timeout=max(30.0, 2 * policy.session_timeout_s),
        broker_heartbeat_interval=policy.heartbeat_s,
        broker_commit_interval=policy.commit_interval_s,
        broker_check_crcs=False,  # the broker checked them, TCP did again
        producer_max_batch_size=512 << 10,
        producer_max_request_size=policy.max_record_bytes + (1 << 20),
        producer_request_timeout=60.0,  # then the outputs are refused and the worker stops
        stream_buffer_maxsize=WAITING_BATCHES,  # Faust forgets the `maxsize` of a topic
        stream_wait_empty=True,
    )
    app.transport = transport(app, connection)
    if web is not None:
        app.web_server(web)

    @app.agent(app.topic(*policy.input_topics, schema=BatchSchema()))
    async def records(stream: Any) -> None:
        async for event in stream.noack().events():
            await process(event.value)

    return app
