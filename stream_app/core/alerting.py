"""Stage 6: from anomalous events to alerts, at most one for a user and task in a cool-down.

The cool-down is in event time and follows from what was decided for the events that came before, so
a redelivered event gets the answer of the first time. Pure; `edges.redis_alerts` runs the same step
inside Redis, guarded by the seq, so that a worker that lost its partition changes nothing.
"""

from __future__ import annotations

from msgspec import Struct

from stream_app.core.window import OFFSET_BITS


class AlertPolicy(Struct, frozen=True, kw_only=True):
    """How often a user and task may alert, and how fast a user's risk fades."""

    cooldown_ms: int = 10 * 60 * 1000
    risk_half_life_ms: int = 24 * 3600 * 1000
    kept: int = 256  # alerts remembered for a user and task, so that redeliveries find theirs


class Anomaly(Struct, frozen=True):
    """An anomalous event, as the cool-down sees it."""

    user_id: str
    task: int
    seq: int
    at_ms: int


class Fired(Struct, frozen=True, array_like=True):
    seq: int
    at_ms: int
    suppressed: int  # anomalous events since the alert before it


class Watch(Struct, array_like=True):
    """What is remembered of one user and task."""

    newest_ms: int = 0  # event time at which `mass` holds
    mass: float = 0.0  # anomalous events, each halved every half-life
    suppressed: int = 0  # since the last alert
    newest: dict[int, int] = {}  # seq by source tag: those of two sources have no order
    fired: list[Fired] = []


class Verdict(Struct, frozen=True):
    """Whether an anomaly alerts, what it stands for, and the user's risk mass after it."""

    alert: bool
    suppressed: int
    mass: float


def step(watch: Watch, anomaly: Anomaly, policy: AlertPolicy) -> Verdict:
    """Judge one anomaly and bring `watch` up to date; one seen before changes nothing."""
    tag = anomaly.seq >> OFFSET_BITS
    if anomaly.seq <= watch.newest.get(tag, 0):
        found = [f for f in watch.fired if f.seq == anomaly.seq]
        return Verdict(bool(found), found[0].suppressed if found else 0, watch.mass)
    elapsed_ms = anomaly.at_ms - watch.newest_ms
    fade = 2.0 ** (-max(elapsed_ms, 0) / policy.risk_half_life_ms)
    watch.mass = watch.mass * fade + 1.0
    watch.newest_ms = max(watch.newest_ms, anomaly.at_ms)
    watch.newest[tag] = anomaly.seq
    if watch.fired and anomaly.at_ms - watch.fired[-1].at_ms < policy.cooldown_ms:
        watch.suppressed += 1
        return Verdict(False, watch.suppressed, watch.mass)
    suppressed, watch.suppressed = watch.suppressed, 0
    watch.fired = [*watch.fired, Fired(anomaly.seq, anomaly.at_ms, suppressed)][-policy.kept :]
    return Verdict(True, suppressed, watch.mass)
