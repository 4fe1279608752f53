"""Faust's transport with our consumer and producer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver

from stream_app.core.record import Source
from stream_app.transport.consumer import BatchConsumer


class BatchProducer(driver.Producer):
    """Idempotent: a retry inside the client, after a broker's restart say, writes nothing twice."""

    def _new_producer(self, transactional_id: str | None = None) -> aiokafka.AIOKafkaProducer:
        conf = self.app.conf
        return aiokafka.AIOKafkaProducer(
            client_id=conf.broker_client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=conf.producer_max_batch_size,
            max_request_size=conf.producer_max_request_size,
            request_timeout_ms=int(conf.producer_request_timeout * 1000),
            **self.transport.connection,
        )


class BatchTransport(driver.Transport):
    """`app.transport = BatchTransport(...)` before the app starts."""

    Consumer = BatchConsumer
    Producer = BatchProducer

    # Hears of a partition that is ours (again): somebody else may have worked on it meanwhile.
    begins: Callable[[Source], None] = staticmethod(lambda source: None)

    def __init__(self, app: Any, connection: Mapping[str, Any]) -> None:
        """`connection`: bootstrap servers and security, as any aiokafka client takes them."""
        super().__init__(app.conf.broker_consumer, app)
        self.connection = connection
