"""What an agent gets instead of single events: a run of records of one partition."""

from __future__ import annotations

from typing import Any

import faust

from stream_app.core.record import RecordBatch


class BatchMessage(RecordBatch):
    """A record batch that looks like one record to Faust, which makes one message of it."""

    __slots__ = ()

    # What Faust's `Consumer._to_message` reads of a record:

    key = None
    headers = ()
    checksum = None
    serialized_key_size = serialized_value_size = 0
    timestamp_type = 0

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
    def value(self) -> RecordBatch:
        return self


class BatchSchema(faust.Schema):
    """Hands the batch through as it is; decoding is the pipeline's."""

    def compile(self, app: Any, **_options: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode
