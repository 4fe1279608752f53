"""Scoring a file: the stream's pipeline over edges in memory, lines as records of one partition.

The file's order is the topic's order; nothing is sorted, so what the stream decided is decided
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
from msgspec import Struct

from stream_app.core.audit_scores import Offline
from stream_app.core.event import MAX_TIME_MS
from stream_app.core.messages import rounded
from stream_app.core.outcome import OUTCOMES, Decided, Output, Seen
from stream_app.core.record import Record, Source, StoredRecord
from stream_app.core.score import Reason
from stream_app.core.window import seq_of, source_tag
from stream_app.pipeline import Pipeline

SOURCE = Source("file", 0)
GROUP_RECORDS = 2048


class Judged(Struct, frozen=True, omit_defaults=True):
    """One scored event, as a line of the output."""

    event_id: str
    task: str
    score: float  # calibrated, 0 to 1
    anomalous: bool
    surprise: float  # nats, of the event
    log_likelihood: float  # nats, of its window: the sum of log P(event | those before it)
    alert: bool = False
    reasons: tuple[Reason, ...] = ()
    p_value: float | None = None  # share of clean events that score so high, if the bundle can tell


class Totals(Struct):
    """What became of the lines of the file; `history` lines are not counted."""

    outcomes: Counter[str]
    dead: Counter[str]
    alerts: int = 0
    campaigns: int = 0  # news of them


class OfflineScorer:
    """Scores lines in order. Keeps every user's log, so histories may be fed first."""

    def __init__(self, pipeline: Pipeline, tasks: tuple[str, ...]) -> None:
        self._pipeline = pipeline
        self._tasks = tasks
        self._next_offset = 0
        self.campaigns: list[bytes] = []  # news of campaigns, as they would be in Kafka
        self.totals = Totals(Counter({kind: 0 for kind in OUTCOMES}), Counter())

    async def remember(self, lines: Iterable[bytes]) -> AsyncIterator[int]:
        """Fill the windows with `lines` without scoring them; yields how many are in so far."""
        done = 0
        for records in self._groups(lines):
            await self._read(records)
            done += len(records)
            yield done

    async def score(self, lines: Iterable[bytes]) -> AsyncIterator[list[Judged]]:
        """Score `lines`; yields the events of a group at a time, in order."""
        for records in self._groups(lines):
            decided = await self._pipeline.decide(await self._read(records))
            outcome = self._pipeline.compose(decided)
            self.totals.dead.update(outcome.dead)
            self.totals.alerts += outcome.counts[Output.ALERTS]
            news = outcome.messages.get(Output.CAMPAIGNS, ())
            self.totals.campaigns += len(news)
            self.campaigns += [message.value or b"" for message in news]
            for kind in OUTCOMES:
                self.totals.outcomes[kind] += outcome.counts[kind]
            yield self._judged(decided)

    async def judge(self, source: Source, records: Sequence[Record]) -> AsyncIterator[list[Judged]]:
        """Score records of a topic as the stream met them: one source, ascending by offset."""
        for begin in range(0, len(records), GROUP_RECORDS):
            group = records[begin : begin + GROUP_RECORDS]
            committed = seq_of(source_tag(source.topic), group[0].offset)
            read = await self._pipeline.read(source, group, [committed])
            yield self._judged(await self._pipeline.decide(read))

    async def judge_all(self, records: Iterable[Record]) -> list[Offline]:
        """What `judge` says of all partitions, to compare the stream with."""
        ordered = sorted(records, key=lambda r: (r.topic, r.partition, r.offset))
        return [
            Offline(one.event_id, one.score, one.anomalous, one.alert)
            for place, own in groupby(ordered, lambda r: Source(r.topic, r.partition))
            async for group in self.judge(place, list(own))
            for one in group
        ]

    def _groups(self, lines: Iterable[bytes]) -> Iterator[list[StoredRecord]]:
        """Lines as records. A file has no Kafka time, so none of its events is ahead of that."""
        nonempty = (line for line in lines if line.strip())
        while chunk := list(islice(nonempty, GROUP_RECORDS)):
            first, self._next_offset = self._next_offset, self._next_offset + len(chunk)
            yield [
                StoredRecord(
                    topic=SOURCE.topic,
                    partition=SOURCE.partition,
                    offset=first + at,
                    timestamp=MAX_TIME_MS,
                    key=None,
                    value=line.strip(),
                )
                for at, line in enumerate(chunk)
            ]

    async def _read(self, records: list[StoredRecord]) -> Seen:
        committed = seq_of(source_tag(SOURCE.topic), records[0].offset)
        return await self._pipeline.read(SOURCE, records, [committed])

    def _judged(self, decided: Decided) -> list[Judged]:
        seen = decided.seen
        found = []
        rare = self._pipeline.thresholds.p_values(decided.scores.calibrated, seen.tasks)
        for window, at in enumerate(seen.accepted.tolist()):
            verdict = decided.verdicts.get(window)
            found.append(
                Judged(
                    seen.decoded.events[at].event_id or "",
                    self._tasks[seen.tasks[window]],
                    round(float(decided.scores.calibrated[window]), 6),
                    bool(decided.anomalous[window]),
                    round(float(decided.scores.surprise[window]), 4),
                    round(float(decided.scores.log_likelihood[window]), 4),
                    verdict is not None and verdict.alert,
                    decided.reasons.get(window, ()),
                    None if rare is None or np.isnan(rare[window]) else rounded(rare[window]),
                )
            )
        return found
