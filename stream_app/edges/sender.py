"""Sending records to Kafka in bulk, for the commands that feed and replay."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Self

from confluent_kafka import KafkaException, Producer
from msgspec import Struct

from stream_app.core.errors import OutboxUnavailable
from stream_app.core.record import Headers
from stream_app.edges.ctrl_c import check

GIVE_UP_S: Final = 60.0  # a record that is not confirmed by then has failed
POLL_EVERY: Final = 256  # records between looks at what was confirmed


class Sending(Struct, frozen=True):
    """One record to send. Without a partition, the key decides, as Java's default does."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    timestamp: int = 0  # epoch ms; 0 is now
    headers: Headers = ()


class Sender:
    """An idempotent producer that counts. Order is kept within a partition, also over retries.

    Keys go to partitions by murmur2, so that all producers agree on where a user is.
    """

    def __init__(self, connection: Mapping[str, Any], max_record_bytes: int) -> None:
        """`connection` is librdkafka's configuration."""
        self._producer = Producer(
            {
                **connection,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "batch.size": 512 << 10,
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": 256 << 10,
                "message.max.bytes": max(max_record_bytes, 1 << 20),
                "message.timeout.ms": round(GIVE_UP_S * 1000),
                "log_level": 0,
            }
        )
        self.sent = 0
        self.delivered = 0
        self._failure: str | None = None

    def send(self, record: Sending) -> None:
        """Hand over; waits while the queue is full. Raises OutboxUnavailable."""
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=self._told,
                    timestamp=record.timestamp,
                    headers=list(record.headers),
                )
                break
            except BufferError:
                self._producer.poll(0.1)
                self._check()
                check()
            except KafkaException as error:
                raise OutboxUnavailable(f"Kafka did not take a record: {error}") from error
        self.sent += 1
        if self.sent % POLL_EVERY == 0:
            self._producer.poll(0)
            self._check()
            check()

    def wait(self, seconds: float) -> None:
        """Let time pass, and take what is confirmed meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._producer.poll(min(left, 0.2))
            check()
        self._check()

    def finish(self, timeout_s: float = GIVE_UP_S + 5) -> None:
        """Return once all that was sent is confirmed. Raises OutboxUnavailable."""
        until = time.monotonic() + timeout_s
        while left := self._producer.flush(0.2):
            self._check()
            check()
            if time.monotonic() > until:
                break
        self._check()
        if left:
            raise OutboxUnavailable(
                f"Kafka confirmed {self.delivered:,} of {self.sent:,} records in {timeout_s:g} s"
            )

    def settle(self, timeout_s: float = 5.0) -> None:
        """After Ctrl-C or trouble: count what the brokers take in time, and drop the rest."""
        self._producer.flush(timeout_s)
        self._producer.purge()
        self._producer.flush(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.settle()

    def _told(self, error: Any, message: Any) -> None:
        if error is None:
            self.delivered += 1
        elif self._failure is None:
            self._failure = str(error)

    def _check(self) -> None:
        if self._failure is not None:
            raise OutboxUnavailable(
                f"Kafka did not confirm a record: {self._failure}; "
                f"{self.delivered:,} of {self.sent:,} are delivered"
            )


class Pacer:
    """When the next record is due: `rate` records a second, or event time `speed` times as fast.

    Neither: at once. The clock is an argument, in seconds.
    """

    def __init__(self, rate: float | None, speed: float | None, now_s: float) -> None:
        self._rate, self._speed, self._began_s = rate, speed, now_s
        self._count = 0
        self._first_ms: int | None = None

    def wait_s(self, at_ms: int | None, now_s: float) -> float:
        """Seconds until the next record, of time `at_ms`, may go; 0 or less is now."""
        due_s = self._began_s
        if self._rate:
            due_s += self._count / self._rate
        self._count += 1
        if self._speed and at_ms is not None:
            self._first_ms = at_ms if self._first_ms is None else self._first_ms
            due_s = max(due_s, self._began_s + (at_ms - self._first_ms) / 1000 / self._speed)
        return due_s - now_s
