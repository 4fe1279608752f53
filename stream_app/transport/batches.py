"""What an agent gets instead of single events: a run of records of one partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faust

from stream_app.core.ledger import Delivery
from stream_app.core.record import Record, Source


class RecordBatch:
    """A run of records, ascending by offset, and the delivery to ack for them.

    Looks like one record to Faust, which makes one message of it.
    """

    __slots__ = ("delivery", "records", "source")

    key = None
    headers = ()
    checksum = None
    serialized_key_size = serialized_value_size = 0

    def __init__(self, source: Source, records: Sequence[Record], delivery: Delivery) -> None:
        self.source = source
        self.records = records
        self.delivery = delivery

    def __len__(self) -> int:
        return len(self.records)

    # What Faust's `Consumer._to_message` reads of a record:

    @property
    def topic(self) -> str:
        return self.source.topic

    @property
    def partition(self) -> int:
        return self.source.partition

    @property
    def offset(self) -> int:
        return self.records[-1].offset

    @property
    def timestamp(self) -> int:
        return self.records[-1].timestamp

    @property
    def timestamp_type(self) -> int:
        return 0

    @property
    def value(self) -> RecordBatch:
        return self


class BatchSchema(faust.Schema):
    """Hands the batch through as it is; decoding is the pipeline's."""

    def compile(self, app: Any, **_options: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode
