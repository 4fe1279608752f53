"""Stage 7: every record's one outcome, and the messages that follow from it.

cleaned, quarantined, dead letter or duplicate (counted only). Alerts and risk come beside that. Ids
and bytes are derived from the input alone, so that a consumer can drop repeats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from stream_app.core.decode import Rejected
from stream_app.core.record import Record
from stream_app.core.score import Reason


class Output(StrEnum):
    """The output topics, by role; settings give them their names."""

    CLEANED = "cleaned"
    QUARANTINED = "quarantined"
    ALERTS = "alerts"
    DEAD_LETTERS = "dead-letters"
    USER_RISK = "user-risk"


class Message(NamedTuple):
    """One message to publish. A plain tuple: tens of thousands a second are made."""

    key: bytes | None
    value: bytes | None
    timestamp: int  # epoch ms
    headers: Sequence[tuple[str, bytes]]


class Outcome(Struct):
    """What became of a run of records: the messages by output, in offset order, and the counts."""

    messages: dict[Output, list[Message]] = field(default_factory=dict)
    counts: Counter[str] = field(
        default_factory=Counter
    )  # cleaned, quarantined, ...; dead:<reason>

    def add(self, output: Output, message: Message) -> None:
        self.messages.setdefault(output, []).append(message)


class Stamp:
    """The headers that go on scored records, shared between messages: building them anew costs 0.4
    us.
    """

    def __init__(self, task_names: Sequence[str], version: str) -> None:
        self._headers = [
            [
                (
                    ("shopsentry-score", b"%.3f" % (milli / 1000)),
                    ("shopsentry-task", task.encode()),
                    ("shopsentry-model", version.encode()),
                )
                for milli in range(1001)
            ]
            for task in task_names
        ]

    def headers(self, task: int, score: float) -> Sequence[tuple[str, bytes]]:
        return self._headers[task][round(score * 1000)]


def passed_on(
    record: Record, stamp: Sequence[tuple[str, bytes]], reasons: Sequence[Reason] = ()
) -> Message:
    """The record byte for byte with our headers after its own."""
    extra = (("shopsentry-reasons", msgspec.json.encode(reasons)),) if reasons else ()
    headers = (*record.headers, *stamp, *extra) if record.headers or extra else stamp
    return Message(record.key, record.value, record.timestamp, headers)


def dead_letter(rejected: Rejected) -> Message:
    """The record byte for byte, with where it came from and why it went no further."""
    record = rejected.record
    return Message(
        record.key,
        record.value,
        record.timestamp,
        (
            *record.headers,
            ("kafka_dlt-original-topic", record.topic.encode()),
            ("kafka_dlt-original-partition", b"%d" % record.partition),
            ("kafka_dlt-original-offset", b"%d" % record.offset),
            ("kafka_dlt-original-timestamp", b"%d" % record.timestamp),
            ("reason", rejected.reason.encode()),
            ("detail", rejected.detail.encode(errors="replace")),
        ),
    )
