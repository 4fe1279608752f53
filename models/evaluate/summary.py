"""Resamples of a measure -> its figure with an interval, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.panel import AP, RARE_AP, Key
from models.evaluate.report import Difference, Figure
from models.evaluate.resample import interval

Floats = NDArray[np.float64]


class Sampled(Struct, frozen=True):
    """One measure of one detector."""

    points: Floats  # (seeds, draws) on all events, NaN where a draw has nothing to measure
    means: Floats  # (resamples + 1,) over seeds and draws; the first on all events


def sampled(points: Floats, by_seed: Floats, picks: NDArray[np.int64]) -> Sampled:
    """`by_seed`: (seeds, resamples + 1), means over draws; `picks`: (seeds, resamples) of seeds."""
    value = mean_known(by_seed[:, :1], 0)
    drawn = np.take_along_axis(by_seed[:, 1:], picks, axis=0)
    return Sampled(points, np.concatenate([value, mean_known(drawn, 0)]))


def mean_known(values: Floats, axis: int) -> Floats:
    """Over what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def figure_of(one: Sampled) -> Figure:
    known = one.points[~np.isnan(one.points)]
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    return Figure(float(one.means[0]), *_interval(one.means), sd)


def difference_of(key: Key, reference: Sampled, other: Sampled) -> Difference:
    """The reference less the other, resample by resample."""
    gap = reference.means - other.means
    misses = None
    if key[2] in (AP, RARE_AP):
        left = 1 - other.means
        with np.errstate(divide="ignore", invalid="ignore"):
            removed = np.where(left > 0, gap / left, np.nan)
        misses = Figure(float(removed[0]), *_interval(removed))
    return Difference(float(gap[0]), *_interval(gap), misses)


def nested(keys: Iterable[Key]) -> dict[str, dict[str, list[str]]]:
    """group -> value -> measures; without those of all events."""
    found: dict[str, dict[str, list[str]]] = {}
    for group, value, measure in keys:
        if group:
            found.setdefault(group, {}).setdefault(value, []).append(measure)
    return found


def _interval(values: Floats) -> tuple[float | None, float | None]:
    return interval(values[1:]) if len(values) > 1 else (None, None)
