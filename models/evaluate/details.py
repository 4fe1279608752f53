"""What is told of one detector beside its ranking measures, over all seeds and draws. Intervals of
calibration and budgets come from `spread`; nothing else here has any.

Decisions, calibration, how soon campaigns are noticed, which look-alikes fall into the budgets, how
well limits set on earlier events are kept, and the curves of the plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.campaign_alerts import Alerted, summary
from models.evaluate.curves import budget, histogram, precision_recall, roc
from models.evaluate.decisions import decisions
from models.evaluate.panel import BUDGETS, Panel, Sides, label_of
from models.evaluate.ranking import Ints
from models.evaluate.reliability import reliability
from models.evaluate.truth import Truth
from stream_app.core.errors import Misconfigured

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]

OTHERS: Final = "others"  # clean users without any look-alike event
EVENTS: Final = (1, 2, 3, 5, 10, 20, 50)
SECONDS: Final = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600)
_DAY_MS: Final = 24 * 3600 * 1000


class Scored(Struct, frozen=True, kw_only=True):
    """A detector's scores of the judged events, and what it made of them."""

    scores: Array  # (events,) or (seeds, events); higher is more unusual
    decided: NDArray[np.bool_] | None = None  # of the same shape: taken for an anomaly
    probability: bool = False  # whether scores are calibrated probabilities
    probabilities: Array | None = None  # these, if scores are something else; of the same shape
    # Share of clean events that may be alerted -> the score to exceed, one a seed. Set on earlier
    # events, never on these.
    limits: Mapping[float, Sequence[float]] = {}
    alerted: Sequence[Alerted] = ()  # campaign alerts, of all seeds and draws


def checked(name: str, given: Array | Scored, truth: Truth) -> Scored:
    """With (seeds, events) in all that it holds. Raises Misconfigured."""
    held = given if isinstance(given, Scored) else Scored(scores=given)
    scores = np.atleast_2d(np.asarray(held.scores, np.float64))
    decided = None if held.decided is None else np.atleast_2d(held.decided)
    told = scores if held.probability else held.probabilities
    probable = None if told is None else np.atleast_2d(np.asarray(told, np.float64))
    for values in (scores, decided, probable):
        if values is not None and (values.ndim != 2 or values.shape[1] != len(truth)):
            raise Misconfigured(
                f"{name} scored {values.shape[-1]:,} events, but {len(truth):,} are to be judged"
            )
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise Misconfigured(
            f"{name} gave {wrong:,} of {scores.size:,} scores that are no finite numbers: every "
            "event needs a score. Were its inputs sound?"
        )
    if probable is not None and not bool(((probable >= 0) & (probable <= 1)).all()):
        raise Misconfigured(f"{name} gives probabilities, but some lie outside 0 to 1")
    for share, limits in held.limits.items():
        if len(limits) != len(scores):
            raise Misconfigured(
                f"{name} has {len(limits)} limits for {label_of(share)}, but {len(scores)} seeds"
            )
    return Scored(
        scores=scores,
        decided=decided,
        probability=held.probability,
        probabilities=probable,
        limits=held.limits,
        alerted=held.alerted,
    )


def details_of(
    given: Scored, truth: Truth, panels: Sequence[Sequence[Panel]], sides: Sequence[Sides]
) -> dict[str, Any]:
    """`given` as checked; `panels`: (seeds, draws)."""
    found: dict[str, Any] = {
        "delays": _delays(panels),
        "look_alikes": _look_alikes(given.scores, truth, sides),
        "look_alike_users": _look_alike_users(given.scores, truth, sides),
        "curves": _curves(given, truth, panels),
    }
    if given.decided is not None:
        found["decisions"] = _decisions(given.decided, truth)
    if given.probabilities is not None:
        found["calibration"] = _calibration(given.probabilities, truth)
    if given.limits:
        found["budgets"] = _kept(given, truth)
    if given.alerted:
        found["campaign_alerts"] = summary(given.alerted)
    return found


def _decisions(decided: NDArray[np.bool_], truth: Truth) -> dict[str, Any]:
    found = decisions(decided, truth.anomalous)
    task = truth.group("task")
    found["task"] = {
        value: decisions(decided[:, task == value], truth.anomalous[task == value])
        for value in sorted(set(task.tolist()) - {""})
    }
    alike = truth.group("look_alike")
    found["look_alikes"] = {
        kind: float(decided[:, (alike == kind) & ~truth.anomalous].mean())
        for kind in sorted(set(alike[~truth.anomalous].tolist()) - {""})
    }
    return found


def _calibration(scores: Array, truth: Truth) -> dict[str, Any]:
    """Of all seeds and draws together, and by task."""
    anomalous = np.tile(truth.anomalous, len(scores))
    found = reliability(scores.reshape(-1), anomalous)
    task = truth.group("task")
    found["task"] = {
        value: reliability(
            scores[:, task == value].reshape(-1),
            np.tile(truth.anomalous[task == value], len(scores)),
        )["expected_calibration_error"]
        for value in sorted(set(task.tolist()) - {""})
    }
    return found


def _delays(panels: Sequence[Sequence[Panel]]) -> dict[str, Any]:
    """By budget: how many events and seconds a campaign has before its first alert."""
    before: dict[str, list[NDArray[np.int64]]] = {}
    seconds: dict[str, list[Floats]] = {}
    for panel in (panel for by_draw in panels for panel in by_draw):
        campaigns, one = panel.sides.campaigns, np.ones((panel.sides.units, 1))
        orders = {label_of(b): (panel.events, b) for b in BUDGETS}
        if panel.users is not None:
            orders |= {f"{1000 * b:g}/1000users": (panel.users, b) for b in BUDGETS}
        for name, (order, share) in orders.items():
            own = campaigns.before_alert(order.weighed(one).alerted(share))[:, 0]
            until = campaigns.seconds_to_alert(own)
            before.setdefault(name, []).append(np.where(np.isinf(until), -1, own))
            seconds.setdefault(name, []).append(until)
    return {
        name: _delay(np.concatenate(before[name]), np.concatenate(seconds[name])) for name in before
    }


def _delay(before: NDArray[np.int64], seconds: Floats) -> dict[str, Any]:
    """`before`: events, -1 where a campaign was never alerted."""
    noticed = before >= 0
    count = len(before)
    return {
        "campaigns": count,
        "noticed": int(noticed.sum()),
        # The alerted event counts: 1 is an alert on the very first.
        "median_events": float(np.median(before[noticed] + 1)) if noticed.any() else None,
        "median_seconds": float(np.median(seconds[noticed])) if noticed.any() else None,
        "noticed_within_events": {
            str(n): float((noticed & (before < n)).sum() / count) for n in EVENTS
        },
        "noticed_within_seconds": {str(n): float((seconds <= n).sum() / count) for n in SECONDS},
    }


def _look_alikes(scores: Array, truth: Truth, sides: Sequence[Sides]) -> dict[str, Any]:
    """By budget of clean events: the share of each kind that it takes, and their share in it."""
    alike = truth.group("look_alike")
    kinds = sorted(set(alike[~truth.anomalous].tolist()) - {""})
    found: dict[str, Any] = {}
    for share in BUDGETS:
        inside: dict[str, list[float]] = {kind: [] for kind in kinds}
        of_all: list[float] = []
        for own, side in ((own, side) for own in scores for side in sides):
            events = side.events[side.negative]
            alerted = own[events] > limit_of(own[events], share)
            kind_of = alike[events]
            for kind in kinds:
                if (kind_of == kind).any():
                    inside[kind].append(float(alerted[kind_of == kind].mean()))
            if alerted.any():
                of_all.append(float((kind_of[alerted] != "").mean()))
        found[label_of(share)] = {
            "share_alerted": {kind: float(np.mean(v)) for kind, v in inside.items() if v},
            "share_of_false_alarms": float(np.mean(of_all)) if of_all else None,
        }
    return found if kinds else {}


def _look_alike_users(scores: Array, truth: Truth, sides: Sequence[Sides]) -> dict[str, Any]:
    """By budget of clean users: the share of users with events of a kind that are alerted by these,
    and of clean users without any such event. Means over seeds and draws.
    """
    alike = truth.group("look_alike")
    found: dict[str, Any] = {}
    for share in BUDGETS:
        inside: dict[str, list[float]] = {}
        for own, side in ((own, side) for own in scores for side in sides if len(side.clean_unit)):
            score, kind = own[side.events[side.of_clean]], alike[side.events[side.of_clean]]
            limit = limit_of(_highest(score, side.clean_user, len(side.clean_unit)), share)
            special = np.unique(side.clean_user[kind != ""])
            others = ~np.isin(side.clean_user, special)
            groups = {name: kind == name for name in np.unique(kind[kind != ""]).tolist()}
            for name, some in (groups | {OTHERS: others}).items():
                users, number = np.unique(side.clean_user[some], return_inverse=True)
                highest = _highest(score[some], number, len(users))
                if len(users):
                    inside.setdefault(name, []).append(float((highest > limit).mean()))
        if inside:
            found[f"{1000 * share:g}/1000users"] = {
                name: float(np.mean(values)) for name, values in inside.items()
            }
    return found


def _highest(scores: Array, user: Ints, users: int) -> Floats:
    """(users,) of each the highest score of its events."""
    highest = np.full(users, -np.inf)
    np.maximum.at(highest, user, scores)
    return highest


def limit_of(clean: Array, share: float) -> float:
    """The lowest score that at most that share of clean events exceed."""
    allowed = int(share * len(clean) + 1e-9)
    return float(-np.partition(-clean, allowed)[allowed]) if allowed < len(clean) else -np.inf


def _kept(given: Scored, truth: Truth) -> dict[str, Any]:
    """Asked budgets against the share of clean events alerted: in all, by draw and by day."""
    clean = ~truth.anomalous
    day = truth.at_ms // _DAY_MS
    found: dict[str, Any] = {}
    for share, limits in given.limits.items():
        alerted = given.scores > np.asarray(limits)[:, None]
        by_day = {
            str(np.datetime64(int(d), "D")): float(alerted[:, clean & (day == d)].mean())
            for d in np.unique(day[clean]).tolist()
        }
        achieved = float(alerted[:, clean].mean())
        found[label_of(share)] = {
            "asked": share,
            "achieved": achieved,
            "ratio": achieved / share,
            "recall": float(alerted[:, truth.anomalous].mean()),
            "alerts_of_all_events": float(alerted.mean()),
            "by_draw": [
                float(alerted[:, clean & (truth.draw == d)].mean())
                for d in np.unique(truth.draw).tolist()
            ],
            "by_day": by_day,
        }
    return found


def _curves(given: Scored, truth: Truth, panels: Sequence[Sequence[Panel]]) -> dict[str, Any]:
    flat = [panel for by_draw in panels for panel in by_draw]
    rankings = [panel.events.weighed(np.ones((panel.sides.units, 1))) for panel in flat]
    budgets = [budget(panel) for panel in flat]
    alike = truth.group("look_alike") != ""
    kinds = {
        "normal": ~truth.anomalous & ~alike,
        "look-alike": ~truth.anomalous & alike,
        "anomalous": truth.anomalous,
    }
    return {
        "roc": _mean([roc(r) for r in rankings]),
        "precision_recall": _mean([precision_recall(r) for r in rankings]),
        "campaigns_by_budget": {
            name: _mean([b[name] for b in budgets if name in b])
            for name in ("events", "users")
            if any(name in b for b in budgets)
        },
        "histogram": histogram(given.scores[0], kinds, given.probability),
    }


def _mean(curves: Sequence[Floats]) -> list[float]:
    return [float(v) for v in np.mean(curves, axis=0)]
