"""One group of records through all stages, in four steps.

    read     decode -> join the users' logs -> windows as of each event
    decide   score -> threshold -> reasons, cool-down and campaigns for the anomalous
    compose  one outcome and its messages for every record
    publish  hand the messages to the outbox, in order

Who runs the steps, how many at a time and what is acked when is `partition`'s affair.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence

import numpy as np
from msgspec import Struct

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict
from stream_app.core.campaign import News
from stream_app.core.coalesce import coalesced
from stream_app.core.decision import decide
from stream_app.core.decode import UNLIMITED, Decoded, decode
from stream_app.core.messages import Composer
from stream_app.core.outcome import NONE_CUT, Decided, Outcome, Seen
from stream_app.core.ports import (
    AlertLog,
    CampaignStore,
    ContextStore,
    CounterStore,
    EventEncoder,
    Outbox,
    Scorer,
    WindowStore,
)
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.record import Record, Source
from stream_app.core.score import NO_LIMITS, NO_SCORES, Scores
from stream_app.core.sighting import sighting
from stream_app.core.together import all_ended
from stream_app.core.window import Ints, WindowPolicy, Windows, as_of, seq_of, source_tag

_log = logging.getLogger("shopsentry.pipeline")


class Policies(Struct, frozen=True):
    window: WindowPolicy
    alerts: AlertPolicy
    pseudonyms: Pseudonyms | None = None  # of users in logs; None: no line tells of one
    hide_users: bool = False  # in alerts and users' risk, too


class Pipeline:
    """The stages with their edges. Keeps no state of its own between groups."""

    def __init__(
        self,
        encoder: EventEncoder,
        windows: WindowStore,
        scorer: Scorer,
        alerts: AlertLog,
        outbox: Outbox,
        policies: Policies,
        most_bytes: int = UNLIMITED,
        context: ContextStore | None = None,
        campaigns: CampaignStore | None = None,
        counters: CounterStore | None = None,
    ) -> None:
        """`most_bytes` of a record fit the output topics, with the headers that we add. `context`
        and `counters` for schemas that ask for them; without `campaigns` nobody looks for them.
        """
        self._encoder = encoder
        self._context = context
        self._counters = counters
        self._campaigns = campaigns
        self._windows = windows
        self._scorer = scorer
        self._alerts = alerts
        self._outbox = outbox
        self._policies = policies
        self._most_bytes = most_bytes
        hidden = policies.pseudonyms if policies.hide_users else None
        self._composer = Composer(
            scorer.tasks, scorer.version, policies.alerts, hidden, scorer.thresholds
        )
        self.thresholds = scorer.thresholds

    async def read(
        self,
        source: Source,
        records: Sequence[Record],
        committed: Sequence[int],
        coalesce: bool = False,
    ) -> Seen:
        """Stages 1 and 2. Groups of a source in offset order. Raises StoreUnavailable.

        `committed`: the committed seq of each source of this partition (see `WindowStore.slide`).
        `coalesce`: score fewer windows, some of them cut (see `core.coalesce`).
        """
        decoded = decode(records, self._scorer.tasks, self._most_bytes)
        if not decoded.events:
            return _nothing_seen(source, decoded, self._encoder, self._policies.window)
        rows = self._encoder.encode(decoded.events)
        offsets = np.array([record.offset for record in decoded.records], np.uint64)
        rows["seq"] = offsets + np.uint64(seq_of(source_tag(source.topic), 1))
        users = [event.user_id.encode() for event in decoded.events]
        told = None
        if self._context is not None:
            told = await self._context.fill(source.partition, users, rows)
        if self._counters is not None:
            await self._counters.fill(source, users, rows, committed)
        logs = await self._windows.slide(source, users, rows, committed)
        if told is not None:
            await told.join()
        accepted, windows = as_of(logs, self._policies.window)
        cut = NONE_CUT
        if coalesce:
            windows, cut = coalesced(windows, logs.start[accepted], logs.place[accepted])
        of_type = self._scorer.tasks.of_type
        tasks = np.array([of_type[event.type] for event in decoded.events], np.int64)
        ages_ms = told.ages_ms if told is not None else None
        return Seen(source, decoded, logs.place, accepted, windows, tasks[accepted], ages_ms, cut)

    async def decide(self, seen: Seen) -> Decided:
        """Stages 3 to 6, in offset order too. Raises StoreUnavailable, DeviceFailed."""
        if not len(seen.windows):
            return Decided(seen, NO_SCORES, NO_LIMITS, np.zeros(0, np.bool_), {}, {})
        scores = await self._scorer.score(seen.windows, seen.tasks)
        limits = self._scorer.thresholds.of(seen.windows, seen.tasks)
        anomalous = decide(scores.calibrated, limits)
        which = np.flatnonzero(anomalous)
        if not len(which):
            return Decided(seen, scores, limits, anomalous, {}, {})
        reasons = await self._scorer.explain(seen.windows.take(which), seen.tasks[which])
        judged = self._alerts.judge(
            seen.source.partition, [_anomaly(seen, window) for window in which.tolist()]
        )
        verdicts, news = await all_ended([judged, self._news(seen, scores, which)])
        if _log.isEnabledFor(logging.DEBUG):
            self._tell(seen, which, verdicts)
        return Decided(
            seen,
            scores,
            limits,
            anomalous,
            dict(zip(which.tolist(), reasons, strict=True)),
            dict(zip(which.tolist(), verdicts, strict=True)),
            news,
        )

    async def _news(self, seen: Seen, scores: Scores, which: Ints) -> dict[int, list[News]]:
        """Of campaigns, by the anomalous window that tells them."""
        if self._campaigns is None:
            return {}
        item = self._encoder.item_field
        found = {w: sighting(seen, scores, w, item) for w in which.tolist()}
        told = await self._campaigns.follow([s for s in found.values() if s.things])
        by_window = zip([w for w, s in found.items() if s.things], told, strict=True)
        return {window: news for window, news in by_window if news}

    def _tell(self, seen: Seen, which: Ints, verdicts: Sequence[Verdict]) -> None:
        """Who alerts, by pseudonym, and for which record."""
        names = self._policies.pseudonyms
        for window, verdict in zip(which.tolist(), verdicts, strict=True):
            at = int(seen.accepted[window])
            if names is None or not verdict.alert:
                continue
            facts = {
                "user": names.of(seen.decoded.events[at].user_id),
                "task": self._scorer.tasks.names[int(seen.tasks[window])],
                "topic": seen.source.topic,
                "partition": seen.source.partition,
                "offset": seen.decoded.records[at].offset,
                "model": self._scorer.version,
            }
            _log.debug("alert", extra=facts)

    def compose(self, decided: Decided) -> Outcome:
        """Stage 7: messages and counts."""
        return self._composer.compose(decided)

    async def publish(self, source: Source, next_offset: int, outcome: Outcome) -> Awaitable[None]:
        """Hand over in order; await what comes back before acking. See `Outbox`."""
        return await self._outbox.publish(source, next_offset, outcome.messages)


def _anomaly(seen: Seen, window: int) -> Anomaly:
    event = seen.decoded.events[int(seen.accepted[window])]
    row = seen.windows.rows[seen.windows.index[window, -1]]
    return Anomaly(event.user_id, int(seen.tasks[window]), int(row["seq"]), event.at_ms)


def _nothing_seen(
    source: Source, decoded: Decoded, encoder: EventEncoder, policy: WindowPolicy
) -> Seen:
    none: Ints = np.zeros(0, np.int64)
    windows = Windows(np.zeros(0, encoder.row), np.zeros((0, policy.size), np.int64), none)
    return Seen(source, decoded, none, none, windows, none)
