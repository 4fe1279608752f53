"""Stage 0: a Kafka record as it came, and a run of them.

Knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from stream_app.core.ledger import Delivery

Headers = tuple[tuple[str, bytes], ...]


class Record(Protocol):
    """What we need of a Kafka record. aiokafka's `ConsumerRecord` has it; so has `StoredRecord`.

    The hot path takes aiokafka's objects as they are: copying them would cost 0.5 us each.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Kafka's record time, epoch ms."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class StoredRecord(Struct, frozen=True, kw_only=True):
    """A record made by us: from a file, or in a test."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Source(Struct, frozen=True):
    """Where records come from: one partition of one input topic."""

    topic: str
    partition: int


class RecordBatch:
    """A run of records of one partition, ascending by offset, and the delivery to ack for them."""

    __slots__ = ("delivery", "records", "source")

    def __init__(self, source: Source, records: Sequence[Record], delivery: Delivery) -> None:
        self.source = source
        self.records = records
        self.delivery = delivery

    def __len__(self) -> int:
        return len(self.records)

    def cut(self, count: int) -> tuple[RecordBatch, RecordBatch]:
        """The first `count` records, fewer than all, and the others; each acked by itself."""
        head, rest = self.records[:count], self.records[count:]
        return (
            RecordBatch(self.source, head, self.delivery.cut(head[-1].offset + 1)),
            RecordBatch(self.source, rest, self.delivery),
        )
