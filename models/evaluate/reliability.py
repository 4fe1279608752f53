"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

BINS: Final = 15

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


class Bins(Struct, frozen=True):
    """Events of like probability."""

    events: list[int]
    predicted: list[float]  # mean probability
    observed: list[float]  # share of anomalies


def reliability(probability: Array, anomalous: Flags, bins: int = BINS) -> dict[str, Any]:
    """Expected calibration error in bins of equal mass (and of equal width), Brier score and skill.

    Equal probabilities are in one bin, so bins are equal in mass only as far as ties let them.
    """
    p, y = np.asarray(probability, np.float64), anomalous.astype(np.float64)
    by_mass = _binned(bins_of(p, bins), p, y)
    by_width = _binned(np.minimum((p * bins).astype(int), bins - 1), p, y)
    brier = float(np.mean((p - y) ** 2))
    naive = float(y.mean() * (1 - y.mean()))
    return {
        "expected_calibration_error": _error(by_mass),
        "expected_calibration_error_equal_width": _error(by_width),
        "brier": brier,
        "brier_skill": 1 - brier / naive if naive else float("nan"),
        "mean_probability": float(p.mean()),
        "prevalence": float(y.mean()),
        "bins": by_mass,
    }


def bins_of(probability: Array, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of equal mass of each, from 0."""
    cuts = np.unique(np.quantile(probability, np.arange(1, bins) / bins, method="lower"))
    return np.searchsorted(cuts, probability, side="right").astype(np.int64)


def _binned(bin_of: NDArray[np.integer[Any]], p: Array, y: Array) -> Bins:
    events = np.bincount(bin_of)
    used = events > 0
    counts = np.maximum(events, 1)
    predicted, observed = np.bincount(bin_of, p) / counts, np.bincount(bin_of, y) / counts
    return Bins(events[used].tolist(), predicted[used].tolist(), observed[used].tolist())


def _error(bins: Bins) -> float:
    events = np.array(bins.events)
    gap = np.abs(np.array(bins.predicted) - np.array(bins.observed))
    return float((events * gap).sum() / events.sum())
