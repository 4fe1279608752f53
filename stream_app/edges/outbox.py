"""The output topics: messages in order, and the brokers' word that they have them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from zlib import crc32

from aiokafka.errors import KafkaError, KafkaTimeoutError

from stream_app.core.errors import OutboxUnavailable
from stream_app.core.outcome import Message, Output
from stream_app.core.record import Source

Deliveries = Sequence[Awaitable[Any]]
ROOM_S: Final = 60.0  # that a batch waits for its turn in the producer


class OutputTopics:
    """Where messages go.

    A message goes to the partition of its input record, folded if the output has fewer: so the
    order of a user's events is kept without hashing keys again. News of a campaign come from all
    partitions, and go by their key.
    """

    def __init__(self, names: Mapping[Output, str], partitions: Mapping[Output, int]) -> None:
        self._names = names
        self._partitions = partitions

    async def send(
        self, producer: Any, partition: int, messages: Mapping[Output, Sequence[Message]]
    ) -> Deliveries:
        """Hand messages to an aiokafka producer; one delivery for each batch. Raises KafkaError."""
        deliveries: list[Awaitable[Any]] = []
        for output, every in messages.items():
            for place, some in self._placed(output, partition, every):
                for batch in _record_batches(producer, some):
                    sent = await _queued(producer, batch, self._names[output], place)
                    deliveries.append(sent)
        return deliveries

    def _placed(
        self, output: Output, partition: int, batch: Sequence[Message]
    ) -> Iterable[tuple[int, Sequence[Message]]]:
        count = self._partitions[output]
        if output is not Output.CAMPAIGNS:
            return [(partition % count, batch)]
        placed: dict[int, list[Message]] = {}
        for message in batch:
            placed.setdefault(crc32(message.key or b"") % count, []).append(message)
        return placed.items()


class KafkaOutbox:
    """An `Outbox` for delivery at least once: the consumer commits what is acked, later."""

    def __init__(self, producer: Callable[[], Any], topics: OutputTopics) -> None:
        """`producer` gives the started aiokafka producer; Faust may restart it."""
        self._producer = producer
        self._topics = topics

    async def publish(
        self, source: Source, next_offset: int, messages: Mapping[Output, Sequence[Message]]
    ) -> Awaitable[None]:
        try:
            deliveries = await self._topics.send(self._producer(), source.partition, messages)
        except KafkaError as error:
            raise _unavailable(error) from error
        return _confirmed(deliveries)


class Transactor(Protocol):
    """Commits outputs with the offset of their input."""

    def submit(
        self, write: Callable[[Any], Awaitable[Deliveries]], next_offset: int
    ) -> Awaitable[None]: ...


class TransactionalOutbox:
    """An `Outbox` for delivery exactly once: outputs, dead letters among them, and the offset of
    their input are committed together.
    """

    def __init__(self, transactor: Callable[[Source], Transactor], topics: OutputTopics) -> None:
        self._transactor = transactor
        self._topics = topics

    async def publish(
        self, source: Source, next_offset: int, messages: Mapping[Output, Sequence[Message]]
    ) -> Awaitable[None]:
        return self._transactor(source).submit(
            lambda producer: self._topics.send(producer, source.partition, messages), next_offset
        )


async def _queued(producer: Any, batch: Any, topic: str, place: int) -> Awaitable[Any]:
    """The delivery of a batch, once the producer has room for it. Raises KafkaError.

    Of several that wait for one partition, aiokafka takes the time off again for each that is let
    in before, and refuses the rest long before its own limit.
    """
    try:
        async with asyncio.timeout(ROOM_S):
            while True:
                with contextlib.suppress(KafkaTimeoutError):
                    sent: Awaitable[Any] = await producer.send_batch(batch, topic, partition=place)
                    return sent
    except TimeoutError:
        raise KafkaTimeoutError(f"no room for {topic} within {ROOM_S:g} s") from None


async def _confirmed(deliveries: Deliveries) -> None:
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
