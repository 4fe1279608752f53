"""Faust's transport with our consumer and producer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver

from stream_app.transport.consumer import BatchConsumer


class BatchProducer(driver.Producer):
    """Idempotent: a retry inside the client, after a broker's restart say, writes nothing twice."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class BatchTransport(driver.Transport):
    """`app.transport = BatchTransport(...)` before the app starts."""

    Consumer = BatchConsumer
    Producer = BatchProducer
