"""How far one bundle's scores and decisions are from another's, event by event."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.ranking import order_of
from models.measures import average_precision
from stream_app.core.decision import decide
from stream_app.core.score import Floats

Pair = tuple[float, float]  # before, after


class Agreement(Struct, frozen=True, kw_only=True):
    events: int
    anomalies: int
    auc: Pair | None  # None without anomalies
    ap: Pair | None
    alarmed: Pair  # share of events at their threshold or above
    changed: float  # share of events decided otherwise than before
    mean_difference: float  # of calibrated scores
    largest_difference: float


def agreement(
    before: Floats,
    after: Floats,
    limits_before: Floats,
    limits_after: Floats,
    anomalous: NDArray[np.bool_],
) -> Agreement:
    """All (events,): calibrated scores, each bundle's thresholds, and the truth."""
    was, is_ = decide(before, limits_before), decide(after, limits_after)
    off = np.abs(after.astype(np.float64) - before)
    known = bool(anomalous.any() and not anomalous.all())
    return Agreement(
        events=len(before),
        anomalies=int(anomalous.sum()),
        auc=(_auc(before, anomalous), _auc(after, anomalous)) if known else None,
        ap=(average_precision(before, anomalous), average_precision(after, anomalous))
        if known
        else None,
        alarmed=(float(was.mean()), float(is_.mean())),
        changed=float((was != is_).mean()),
        mean_difference=float(off.mean()),
        largest_difference=float(off.max()),
    )


def _auc(scores: Floats, anomalous: NDArray[np.bool_]) -> float:
    positive, negative = scores[anomalous], scores[~anomalous]
    alike = [np.zeros(len(some), np.int64) for some in (positive, negative)]
    order = order_of(positive, alike[0], negative, alike[1], 1)
    return float(order.weighed(np.ones((1, 1))).area_under_curve()[0])
