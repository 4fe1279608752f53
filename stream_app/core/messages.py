"""Stage 7: a decided group -> the messages of all its outputs.

Pure, and the last step before the outbox: after it a group is bytes and counts.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from stream_app.core.alerting import AlertPolicy
from stream_app.core.campaign import Joined, Kind, News
from stream_app.core.coordination import Evidence
from stream_app.core.decision import Thresholds
from stream_app.core.decode import Rejected
from stream_app.core.event import Event, Tasks
from stream_app.core.outcome import (
    COALESCED,
    DUPLICATES,
    SCORED_HEADER,
    Decided,
    Message,
    Outcome,
    Output,
    Stamp,
    passed_on,
)
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.score import Reason
from stream_app.core.window import DUPLICATE


class WindowSummary(Struct, frozen=True):
    """What the scorer looked at."""

    events: int
    span_s: float  # event time from its first event to the scored one


class AlertData(Struct, frozen=True, kw_only=True):
    """The body of an alert."""

    user_id: str
    task: str
    event_id: str
    event_type: str
    event_time: int  # epoch ms
    score: float  # calibrated, 0 to 1
    threshold: float
    surprise: float  # nats, of the event
    model: str  # version of the bundle
    reasons: tuple[Reason, ...]  # the strongest first
    window: WindowSummary
    suppressed: int  # anomalous events of this user and task since the last alert
    log_likelihood: float | None = None  # nats, of the window: sum of log P(event | those before)
    scored: Literal["coalesced"] | None = None  # by a window that was cut; null: by the whole one
    # Share of clean events that score so high; not there unless the bundle was calibrated to tell.
    p_value: float | UnsetType = UNSET


class RiskData(Struct, frozen=True, kw_only=True):
    """How much of what a user did lately was anomalous under one task."""

    user_id: str
    task: str
    at_ms: int  # event time at which it holds
    anomalous: float  # anomalous events, each halved every half-life
    share: float  # of the user's window, 0 to 1
    half_life_ms: int


class CampaignData(Struct, frozen=True, kw_only=True):
    """Users who look as if they worked together at one thing."""

    campaign_id: str
    status: Literal["open", "closed"]
    kind: Kind
    thing: str  # the item's or device's id, or the query
    events: int  # anomalous ones so far; of two messages, the one with more of them is newer
    first_ms: int  # event time
    last_ms: int
    members: tuple[Joined, ...]  # of the newest events, by their first one
    evidence: Evidence  # of the same
    model: str  # version of the bundle


class CloudEvent(Struct, frozen=True, kw_only=True):
    """A CloudEvents 1.0 structured event. `id` is the input event's, or the campaign's and how much
    of it there is: repeats can be dropped.
    """

    specversion: str = "1.0"
    id: str
    source: str = "shopsentry"
    type: str
    subject: str  # user id, or what stands for it; campaign id
    time: str  # event time, RFC 3339
    datacontenttype: str = "application/json"
    data: AlertData | RiskData | CampaignData


ALERT_TYPE = "shopsentry.alert.v1"
RISK_TYPE = "shopsentry.user-risk.v1"
CAMPAIGN_TYPE = "shopsentry.campaign.v1"


class Composer:
    """Makes the messages of decided groups, all under one bundle."""

    def __init__(
        self,
        tasks: Tasks,
        version: str,
        policy: AlertPolicy,
        names: Pseudonyms | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        """`names` stand for users in what we make ourselves; records are passed on as they are.
        `thresholds` may know how rare a score is.
        """
        self._thresholds = thresholds
        self._name = names.of if names else str
        self._tasks = tasks
        self._version = version
        self._policy = policy
        self._stamp = Stamp(tasks.names, version)

    def compose(self, decided: Decided) -> Outcome:
        """The one outcome of every record of the group. Raises AssertionError if one has none."""
        seen, outcome = decided.seen, Outcome()
        decoded = seen.decoded
        dead = list(decoded.rejected)
        for record, place in zip(decoded.records, seen.place.tolist(), strict=True):
            if place == DUPLICATE:
                outcome.counts[DUPLICATES] += 1
            elif place < 0:
                dead.append(Rejected(record, "late", "older than the user's newest event allows"))

        stamps = self._stamp.headers(seen.tasks, decided.scores)
        for window in np.flatnonzero(seen.cut).tolist():
            stamps[window] = [*stamps[window], (SCORED_HEADER, COALESCED.encode())]
            outcome.counts[COALESCED] += 1
        cleaned: list[Message] = []
        for window, (at, fate) in enumerate(
            zip(seen.accepted.tolist(), _fates(decided), strict=True)
        ):
            record = decoded.records[at]
            if fate == _NORMAL:
                if record.headers:
                    cleaned.append(passed_on(record, stamps[window]))
                else:  # the common case, without a call
                    message = Message(record.key, record.value, record.timestamp, stamps[window])
                    cleaned.append(message)
            elif fate == _ANOMALOUS:
                reasons = decided.reasons[window]
                outcome.add(Output.QUARANTINED, passed_on(record, stamps[window], reasons))
                self._report(outcome, decided, window, decoded.events[at], record.timestamp)
                for news in decided.news.get(window, ()):
                    outcome.add(Output.CAMPAIGNS, self._campaign(news, record.timestamp))
            else:
                dead.append(Rejected(record, "poison", "the scorer fails on this event's window"))
        for rejected in sorted(dead, key=lambda letter: letter.record.offset):
            outcome.bury(rejected)
        if cleaned:
            outcome.messages[Output.CLEANED] = cleaned
            outcome.counts[Output.CLEANED] = len(cleaned)
        outcome.check(len(decoded.records) + len(decoded.rejected))
        return outcome

    def _report(
        self, outcome: Outcome, decided: Decided, window: int, event: Event, timestamp: int
    ) -> None:
        """The user's new risk, and an alert unless one is out already."""
        verdict, task = decided.verdicts[window], int(decided.seen.tasks[window])
        summary = _summary(decided, window)
        user = self._name(event.user_id)
        risk = RiskData(
            user_id=user,
            task=self._tasks.names[task],
            at_ms=event.at_ms,
            anomalous=round(verdict.mass, 6),
            share=round(min(1.0, verdict.mass / max(summary.events, verdict.mass)), 6),
            half_life_ms=self._policy.risk_half_life_ms,
        )
        outcome.add(Output.USER_RISK, self._envelope(RISK_TYPE, event, risk, timestamp))
        if not verdict.alert:
            return
        alert = AlertData(
            user_id=user,
            task=self._tasks.names[task],
            event_id=event.event_id or "",
            event_type=event.type,
            event_time=event.at_ms,
            score=round(float(decided.scores.calibrated[window]), 6),
            threshold=round(float(decided.limits[window]), 6),
            surprise=round(float(decided.scores.surprise[window]), 4),
            log_likelihood=_known(float(decided.scores.log_likelihood[window])),
            model=self._version,
            reasons=decided.reasons[window],
            window=summary,
            suppressed=verdict.suppressed,
            scored="coalesced" if _cut(decided, window) else None,
            p_value=self._p_value(decided, window),
        )
        outcome.add(Output.ALERTS, self._envelope(ALERT_TYPE, event, alert, timestamp))

    def _p_value(self, decided: Decided, window: int) -> float | UnsetType:
        """A cut window scores otherwise than those that it would be compared with."""
        if self._thresholds is None or _cut(decided, window):
            return UNSET
        one = slice(window, window + 1)
        p = self._thresholds.p_values(decided.scores.calibrated[one], decided.seen.tasks[one])
        return UNSET if p is None else rounded(p[0])

    def _campaign(self, news: News, timestamp: int) -> Message:
        envelope = CloudEvent(
            id=f"{news.id}-{'closed-' if news.closed else ''}{news.events}",
            type=CAMPAIGN_TYPE,
            subject=news.id,
            time=rfc3339(news.last_ms),
            data=CampaignData(
                campaign_id=news.id,
                status="closed" if news.closed else "open",
                kind=news.thing.kind,
                thing=news.thing.name,
                events=news.events,
                first_ms=news.first_ms,
                last_ms=news.last_ms,
                members=tuple(replace(m, user_id=self._name(m.user_id)) for m in news.members),
                evidence=news.evidence,
                model=self._version,
            ),
        )
        return Message(news.id.encode(), msgspec.json.encode(envelope), timestamp, [])

    def _envelope(
        self, kind: str, event: Event, data: AlertData | RiskData, timestamp: int
    ) -> Message:
        envelope = CloudEvent(
            id=event.event_id or "",
            type=kind,
            subject=data.user_id,
            time=rfc3339(event.at_ms),
            data=data,
        )
        return Message(data.user_id.encode(), msgspec.json.encode(envelope), timestamp, [])


_NORMAL, _ANOMALOUS, _POISON = range(3)


def _fates(decided: Decided) -> list[int]:
    """What became of each window."""
    poison = np.isnan(decided.scores.calibrated)
    fates: list[int] = np.where(poison, _POISON, decided.anomalous.astype(np.int64)).tolist()
    return fates


def _cut(decided: Decided, window: int) -> bool:
    return len(decided.seen.cut) > 0 and bool(decided.seen.cut[window])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def rounded(p: float) -> float:
    """A p-value to four figures."""
    return float(f"{p:.4g}")


def _summary(decided: Decided, window: int) -> WindowSummary:
    windows = decided.seen.windows
    length = int(windows.length[window])
    times = windows.rows["at_ms"][windows.index[window, -length:]]
    return WindowSummary(length, round(int(times[-1] - times[0]) / 1000, 3))


def rfc3339(at_ms: int) -> str:
    """Epoch ms as RFC 3339 in UTC, with milliseconds."""
    second = datetime.fromtimestamp(at_ms // 1000, UTC)  # a float of all would round far times
    return f"{second:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"
