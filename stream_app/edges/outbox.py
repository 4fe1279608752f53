"""The output topics: messages in order, and the brokers' word that they have them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from stream_app.core.errors import OutboxUnavailable
from stream_app.core.outcome import Message, Output


class KafkaOutbox:
    """An `Outbox` over an aiokafka producer.

    A message goes to the partition of its input record, folded if the output has fewer: so the
    order of a user's events is kept without hashing keys again.
    """

    def __init__(
        self,
        producer: Callable[[], Any],
        topics: Mapping[Output, str],
        partitions: Mapping[Output, int],
    ) -> None:
        """`producer` gives the started aiokafka producer; Faust may restart it."""
        self._producer = producer
        self._topics = topics
        self._partitions = partitions

    async def publish(
        self, partition: int, messages: Mapping[Output, Sequence[Message]]
    ) -> Awaitable[None]:
        producer = self._producer()
        deliveries: list[asyncio.Future[Any]] = []
        try:
            for output, batch in messages.items():
                place = partition % self._partitions[output]
                for builder in _record_batches(producer, batch):
                    sent = await producer.send_batch(builder, self._topics[output], partition=place)
                    deliveries.append(sent)
        except KafkaError as error:
            raise _unavailable(error) from error
        return _confirmed(deliveries)


async def _confirmed(deliveries: Sequence[asyncio.Future[Any]]) -> None:
    for answer in await asyncio.gather(*deliveries, return_exceptions=True):
        if isinstance(answer, KafkaError):
            raise _unavailable(answer) from answer
        if isinstance(answer, BaseException):
            raise answer


def _unavailable(error: KafkaError) -> OutboxUnavailable:
    return OutboxUnavailable(f"Kafka did not take the outputs: {error!r}")


def _record_batches(producer: Any, messages: Sequence[Message]) -> Iterator[Any]:
    """Closed aiokafka batches of the messages, in order."""
    batch = producer.create_batch()
    for message in messages:
        if _append(batch, message) is None:  # full
            batch.close()
            yield batch
            batch = producer.create_batch()
            _append(batch, message)  # an empty batch takes a message of any size
    if batch.record_count():
        batch.close()
        yield batch


def _append(batch: Any, message: Message) -> Any:
    return batch.append(
        key=message.key,
        value=message.value,
        timestamp=message.timestamp,
        headers=message.headers,
    )
