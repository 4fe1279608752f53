"""What the plots show, on grids that do not depend on the data: means over seeds and draws."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate.panel import Panel
from models.evaluate.ranking import Ranking

Floats = NDArray[np.float64]

FALSE_RATES: Final = np.concatenate([[0.0], np.logspace(-4, 0, 121)])
RECALLS: Final = np.linspace(0.01, 1, 100)
BUDGET_GRID: Final = np.logspace(-4, -1, 31)
_BARS: Final = 40


def roc(ranking: Ranking) -> Floats:
    """Share of anomalies found at each of `FALSE_RATES`."""
    rate = ranking.through[ranking.level, 0] / ranking.negatives[0]
    reached = np.searchsorted(np.sort(rate), FALSE_RATES + 1e-12, side="right")
    return np.asarray(reached / len(rate))


def precision_recall(ranking: Ranking) -> Floats:
    """Precision at the highest threshold that finds each of `RECALLS`."""
    hits = np.cumsum(np.bincount(ranking.level))
    precision = hits / (hits + ranking.through[:, 0])
    at = np.searchsorted(hits, np.ceil(RECALLS * hits[-1] - 1e-9))
    return np.asarray(precision[at])


def budget(panel: Panel) -> dict[str, Floats]:
    """Campaigns found where each of `BUDGET_GRID` of clean events, or users, is alerted."""
    one = np.ones((panel.sides.units, 1))
    campaigns = panel.sides.campaigns
    found = {}
    for name, order in (("events", panel.events), ("users", panel.users)):
        if order is None or not len(campaigns):
            continue
        ranking = order.weighed(one)
        alerted = np.concatenate([ranking.alerted(float(b)) for b in BUDGET_GRID], axis=1)
        before = campaigns.before_alert(alerted)
        found[name] = np.asarray((before < campaigns.size[:, None]).mean(0))
    return found


def histogram(scores: Floats, kinds: dict[str, NDArray[np.bool_]], probability: bool) -> Any:
    """Share of each kind's events by score. Probabilities: 0 to 1, else all but the far tails."""
    low, high = (0.0, 1.0) if probability else np.quantile(scores, [0.001, 0.999]).tolist()
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _BARS + 1)
    inside = np.clip(scores, low, high)
    shares = {
        kind: (np.histogram(inside[own], edges)[0] / own.sum()).tolist()
        for kind, own in kinds.items()
        if own.any()
    }
    return {"edges": edges.tolist(), "shares": shares}
