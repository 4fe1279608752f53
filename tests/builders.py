"""Readable inputs, and the pipeline over edges in memory.

    records(click("u1", at_ms=1), click("u1", at_ms=2, score=0.9), b"no event")

The scorer here takes the score of an event from its attribute `score`, so a test says beforehand
how each event will be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from stream_app.core.alerting import AlertPolicy
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.decision import Thresholds
from stream_app.core.event import Event, Tasks
from stream_app.core.ledger import Ledger
from stream_app.core.outcome import Outcome
from stream_app.core.ports import AlertLog, CampaignStore, Outbox, Scorer, WindowStore
from stream_app.core.record import Headers, RecordBatch, Source, StoredRecord
from stream_app.core.score import Floats
from stream_app.core.window import HEAD, Ints, Rows, WindowPolicy, Windows, seq_of, source_tag
from stream_app.edges.memory import (
    FixedScorer,
    MemoryAlertLog,
    MemoryCampaigns,
    MemoryOutbox,
    MemoryWindows,
)
from stream_app.pipeline import Pipeline, Policies

EVENTS: Final = Source("shop.events", 0)
START_MS: Final = 1_700_000_000_000  # a Tuesday in 2023
POISON: Final = "poison"  # as a score: the scorer fails on the event

TASKS: Final = Tasks(
    ("browse", "click", "purchase"), {"browse": 0, "click": 1, "cart": 1, "purchase": 2}
)
THRESHOLDS: Final = Thresholds((0.5, 0.6, 0.7))
WINDOWS: Final = WindowPolicy(size=4, slack=3, span_ms=100_000, lateness_ms=60_000)
ALERTS: Final = AlertPolicy(cooldown_ms=1000)
POLICIES: Final = Policies(WINDOWS, ALERTS)
CAMPAIGNS: Final = CampaignPolicy()

Act = dict[str, Any]  # an event as its producer writes it


# -- inputs


def act(kind: str, user: str, at_ms: int, score: float | str | None = None, **fields: Any) -> Act:
    """An event as a producer writes it; `at_ms` counts from START_MS."""
    made = {"user_id": user, "type": kind, "event_time": START_MS + at_ms, **fields}
    if score is not None:
        made["attributes"] = {**fields.get("attributes", {}), "score": score}
    return made


def click(user: str, *, at_ms: int, score: float | str | None = None, **fields: Any) -> Act:
    return act("click", user, at_ms, score, **fields)


def browse(user: str, *, at_ms: int, score: float | str | None = None, **fields: Any) -> Act:
    return act("browse", user, at_ms, score, **fields)


def purchase(user: str, *, at_ms: int, score: float | str | None = None, **fields: Any) -> Act:
    return act("purchase", user, at_ms, score, **fields)


def without(made: Act, *fields: str) -> Act:
    return {name: value for name, value in made.items() if name not in fields}


def envelope(made: Mapping[str, Any]) -> Act:
    """A CloudEvents 1.0 structured envelope around an event."""
    context = {"specversion": "1.0", "id": "1", "source": "shop", "type": "com.example.shop"}
    return {**context, "data": made}


def record(
    value: Act | bytes | None,
    *,
    offset: int = 0,
    source: Source = EVENTS,
    key: bytes | None = None,
    timestamp: int = START_MS,
    headers: Headers = (),
) -> StoredRecord:
    """One record; an event is written as JSON."""
    return StoredRecord(
        topic=source.topic,
        partition=source.partition,
        offset=offset,
        timestamp=timestamp,
        key=key,
        value=msgspec.json.encode(value) if isinstance(value, dict) else value,
        headers=headers,
    )


def records(
    *values: Act | bytes | None, first: int = 0, source: Source = EVENTS
) -> list[StoredRecord]:
    """Records of one partition from offset `first` on."""
    return [record(value, offset=first + n, source=source) for n, value in enumerate(values)]


def batch(of: Sequence[StoredRecord], source: Source = EVENTS) -> RecordBatch:
    """A delivery of a ledger of its own."""
    return RecordBatch(source, of, Ledger(of[0].offset).deliver(of[-1].offset + 1))


# -- the pipeline in memory


class SmallEncoder:
    """An `EventEncoder`: of an event's fields, its type, item and score alone."""

    row = np.dtype([*HEAD, ("type", "u1"), ("score", "<f4"), ("item", "<u4")])
    item_field = "item"

    def encode(self, events: Sequence[Event]) -> Rows:
        rows = np.zeros(len(events), self.row)
        for row, event in zip(rows, events, strict=True):
            row["at_ms"] = event.at_ms
            row["id"] = xxh3_64_intdigest((event.event_id or "").encode())
            row["item"] = xxh3_64_intdigest((event.item_id or "").encode()) & 0xFFFF
            row["type"] = TASKS.of_type[event.type]
            score = (event.attributes or {}).get("score") or 0.0
            row["score"] = np.nan if score == POISON else score
        return rows


def scores_as_told(windows: Windows, tasks: Ints) -> Floats:
    """The score of each window is what its event says of itself."""
    own: Floats = windows.rows["score"][windows.index[:, -1]].astype(np.float32)
    return own


class Desk:
    """A pipeline over edges in memory, and what it published."""

    def __init__(
        self,
        *,
        windows: WindowStore | None = None,
        scorer: Scorer | None = None,
        alerts: AlertLog | None = None,
        outbox: Outbox | None = None,
        policies: Policies = POLICIES,
        campaigns: CampaignStore | None = None,
    ) -> None:
        self.memory = MemoryOutbox()
        self.published = self.memory.messages
        self.scorer = scorer or FixedScorer(TASKS, THRESHOLDS, scores_as_told)
        encoder = SmallEncoder()
        self.pipeline = Pipeline(
            encoder,
            windows or MemoryWindows(encoder.row, WINDOWS),
            self.scorer,
            alerts or MemoryAlertLog(ALERTS),
            outbox or self.memory,
            policies,
            campaigns=campaigns or MemoryCampaigns(CAMPAIGNS),
        )

    async def take(
        self, group: Sequence[StoredRecord], *, source: Source = EVENTS, committed: int = 0
    ) -> Outcome:
        """One group through all stages; `committed` is the offset to which all is done."""
        done = [seq_of(source_tag(source.topic), committed)]
        seen = await self.pipeline.read(source, group, done)
        outcome = self.pipeline.compose(await self.pipeline.decide(seen))
        next_offset = group[-1].offset + 1 if group else committed
        await (await self.pipeline.publish(source, next_offset, outcome))
        return outcome

    async def take_all(
        self, of: Sequence[StoredRecord], *, group_records: int, source: Source = EVENTS
    ) -> None:
        """All records, so many in a group, each group committed before the next."""
        for group in parts(of, group_records):
            await self.take(group, source=source, committed=group[0].offset)


def parts(of: Sequence[StoredRecord], size: int) -> Iterable[Sequence[StoredRecord]]:
    """Runs of `size` records; the last may be shorter."""
    return (of[begin : begin + size] for begin in range(0, len(of), size))
