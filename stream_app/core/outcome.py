"""Stage 7: every record's one outcome, and the messages that follow from it.

cleaned, quarantined, dead letter or duplicate (counted only). Alerts, risk and news of campaigns
come beside that. Ids are derived from the input alone, so that a consumer can drop repeats; a
repeat has the same bytes, but for the user's risk, which is always the newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from stream_app.core.alerting import Verdict
from stream_app.core.campaign import News
from stream_app.core.decode import TOO_LARGE, Decoded, Rejected
from stream_app.core.record import Record, Source
from stream_app.core.score import Floats, Reason, Scores
from stream_app.core.window import Ints, Windows


class Output(StrEnum):
    """The output topics, by role; settings give them their names."""

    CLEANED = "cleaned"
    QUARANTINED = "quarantined"
    ALERTS = "alerts"
    DEAD_LETTERS = "dead-letters"
    USER_RISK = "user-risk"
    CAMPAIGNS = "campaigns"


Headers = list[tuple[str, bytes]]  # a list: aiokafka's builder takes nothing else


class Message(NamedTuple):
    """One message to publish. A plain tuple: tens of thousands a second are made."""

    key: bytes | None
    value: bytes | None
    timestamp: int  # epoch ms
    headers: Headers


NONE_CUT = np.zeros(0, np.bool_)


class Seen(Struct, frozen=True):
    """A group of records of one source after stage 2."""

    source: Source
    decoded: Decoded
    place: Ints  # (events,) see `window.Logs`
    accepted: Ints  # (windows,) which events have a window, ascending
    windows: Windows
    tasks: Ints  # (windows,) task index
    ages_ms: Ints | None = None  # (events,) since each user was first seen, where that is kept
    cut: NDArray[np.bool_] = NONE_CUT  # (windows,) by `coalesce`; empty if it was not asked


class Decided(Struct, frozen=True):
    """The same group after stage 6. The dictionaries hold the anomalous windows."""

    seen: Seen
    scores: Scores
    limits: Floats  # (windows,) the threshold of each
    anomalous: NDArray[np.bool_]  # (windows,)
    reasons: Mapping[int, tuple[Reason, ...]]
    verdicts: Mapping[int, Verdict]
    news: Mapping[int, Sequence[News]] = {}  # of campaigns


class Outcome(Struct):
    """What became of a group of records: messages by output, in offset order, and counts."""

    messages: dict[Output, list[Message]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)  # by outcome: cleaned, quarantined, ...
    dead: Counter[str] = field(default_factory=Counter)  # dead letters by reason

    def add(self, output: Output, message: Message) -> None:
        self.messages.setdefault(output, []).append(message)
        self.counts[output] += 1

    def bury(self, rejected: Rejected) -> None:
        self.add(Output.DEAD_LETTERS, dead_letter(rejected))
        self.dead[rejected.reason] += 1

    def check(self, records: int) -> None:
        """Every record has one outcome; anything else is a defect of ours and must not be acked."""
        ended = sum(self.counts[kind] for kind in OUTCOMES)
        if ended != records:
            raise AssertionError(f"{records} records, but {ended} outcomes: {self.counts}")


DUPLICATES = "duplicates"
COALESCED = "coalesced"
SCORED_HEADER = "shopsentry-scored"  # on what was scored in another way than by its whole window
STEPS = 10_000  # between a score of 0 and of 1, in the header
CUT_TO = 1024  # bytes left of a value that is too large for the dead letters
OUTCOMES = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS, DUPLICATES)


class Stamp:
    """The headers that go on scored records.

    Shared between records, and made when first asked for: anew for each they would cost 0.4 us, and
    all beforehand tens of milliseconds.
    """

    def __init__(self, task_names: Sequence[str], version: str) -> None:
        self._made = [_Made(task, version) for task in task_names]

    def headers(self, tasks: Ints, scores: Scores) -> list[Headers]:
        """One list of headers a window; a score that is not a number counts as 0."""
        step = np.nan_to_num(np.round(scores.calibrated * STEPS)).astype(np.int64)
        made = self._made
        return [made[task][s] for task, s in zip(tasks.tolist(), step.tolist(), strict=True)]


class _Made(dict[int, Headers]):
    """The headers of one task by the score's step."""

    def __init__(self, task: str, version: str) -> None:
        super().__init__()
        self._task, self._version = task.encode(), version.encode()

    def __missing__(self, step: int) -> Headers:
        headers = self[step] = [
            ("shopsentry-score", b"%.4f" % (step / STEPS)),
            ("shopsentry-task", self._task),
            ("shopsentry-model", self._version),
        ]
        return headers


def passed_on(record: Record, stamp: Headers, reasons: Sequence[Reason] = ()) -> Message:
    """The record byte for byte, with our headers after its own."""
    if reasons:
        stamp = [*stamp, ("shopsentry-reasons", msgspec.json.encode(reasons))]
    headers = [*record.headers, *stamp] if record.headers else stamp
    return Message(record.key, record.value, record.timestamp, headers)


def dead_letter(rejected: Rejected) -> Message:
    """The record byte for byte, with where it came from and why it went no further.

    One that is too large for the topic is cut, and loses its own headers: its origin finds it
    again.
    """
    record = rejected.record
    fits = rejected.reason != TOO_LARGE
    headers = [
        *(record.headers if fits else ()),
        ("kafka_dlt-original-topic", record.topic.encode()),
        ("kafka_dlt-original-partition", b"%d" % record.partition),
        ("kafka_dlt-original-offset", b"%d" % record.offset),
        ("kafka_dlt-original-timestamp", b"%d" % record.timestamp),
        ("reason", rejected.reason.encode()),
        ("detail", rejected.detail.encode(errors="replace")),
    ]
    value = record.value if fits or record.value is None else record.value[:CUT_TO]
    return Message(record.key, value, record.timestamp, headers)
