"""Edges in memory: for offline scoring, and for tests without services."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict, Watch, step
from stream_app.core.campaign import CampaignBook, CampaignPolicy, News, Sighting
from stream_app.core.context import ContextPlan, SiteBook
from stream_app.core.decision import Thresholds
from stream_app.core.errors import StoreUnavailable
from stream_app.core.event import Tasks
from stream_app.core.logbook import LogBook
from stream_app.core.outcome import Message, Outcome, Output
from stream_app.core.ports import Told, no_more
from stream_app.core.record import Record, Source
from stream_app.core.score import Floats, Reason, Scores
from stream_app.core.window import Ints, Logs, Rows, WindowPolicy, Windows, raised


class MemoryWindows:
    """A `WindowStore`; partitions do not matter, since a user is in one."""

    def __init__(self, row: np.dtype[np.void], policy: WindowPolicy) -> None:
        self._book = LogBook(row, policy)
        self._known: dict[int, dict[int, int]] = {}  # by partition

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        known: Sequence[int] = ()
        if len(users):
            known = raised(self._known.setdefault(source.partition, {}), committed)
        return self._book.slide(users, rows, committed, known)


class MemoryContext:
    """What the site saw, in this process alone."""

    def __init__(self, plan: ContextPlan) -> None:
        self._site = SiteBook(plan)

    async def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Told:
        """Remembers them at once: nothing comes again here."""
        return Told(self._site.fill(partition, users, rows), no_more)


class MemoryAlertLog:
    """An `AlertLog`."""

    def __init__(self, policy: AlertPolicy) -> None:
        self._policy = policy
        self._watches: dict[tuple[str, int], Watch] = {}

    async def judge(self, partition: int, anomalies: Sequence[Anomaly]) -> list[Verdict]:
        return [
            step(self._watches.setdefault((a.user_id, a.task), Watch()), a, self._policy)
            for a in anomalies
        ]


class MemoryCampaigns:
    """A `CampaignStore`."""

    def __init__(self, policy: CampaignPolicy) -> None:
        self._book = CampaignBook(policy)

    async def follow(self, sightings: Sequence[Sighting]) -> list[list[News]]:
        return self._book.follow(sightings)


class MemoryOutbox:
    """An `Outbox` that keeps what was published, by output."""

    def __init__(self) -> None:
        self.messages: dict[Output, list[Message]] = {output: [] for output in Output}

    async def publish(
        self, source: Source, next_offset: int, messages: Mapping[Output, Sequence[Message]]
    ) -> asyncio.Future[None]:
        for output, batch in messages.items():
            self.messages[output].extend(batch)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class FixedScorer:
    """A `Scorer` that follows a rule instead of a model, and costs nothing."""

    version = "fixed"
    device = "none"

    def __init__(
        self, tasks: Tasks, thresholds: Thresholds, rule: Callable[[Windows, Ints], Floats]
    ) -> None:
        """`rule`: windows and their tasks -> calibrated scores."""
        self.tasks = tasks
        self.thresholds = thresholds
        self._rule = rule

    async def score(self, windows: Windows, tasks: Ints) -> Scores:
        nothing = np.zeros(len(windows), np.float32)
        return Scores(self._rule(windows, tasks), nothing, nothing)

    async def explain(self, windows: Windows, tasks: Ints) -> list[tuple[Reason, ...]]:
        return [(Reason("rule", 0, "broken", "kept", 1.0),)] * len(windows)

    def close(self) -> None:
        """Nothing waits."""


class MemoryMeter:
    """A `Meter` that adds up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.dead: Counter[str] = Counter()
        self.records = 0
        self.groups: list[int] = []
        self.waits: list[StoreUnavailable] = []

    def group(
        self, source: Source, records: Sequence[Record], outcome: Outcome, took_s: float
    ) -> None:
        self.counts.update(outcome.counts)
        self.dead.update(outcome.dead)
        self.records += len(records)
        self.groups.append(len(records))

    def waiting(self, source: Source, error: StoreUnavailable) -> None:
        self.waits.append(error)
