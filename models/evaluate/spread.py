"""How far calibration errors and achieved budgets would move with other users: their intervals.

Everything is a sum over the events of a user or a campaign, so a resample is a weighted sum. Bins
of probability, and limits, stay those of all events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.details import Scored
from models.evaluate.panel import label_of
from models.evaluate.reliability import BINS, bins_of
from models.evaluate.resample import Units, interval, weights
from models.evaluate.truth import Truth

Floats = NDArray[np.float64]
Interval = tuple[float, float]

ERROR: Final = "expected_calibration_error_interval"
ACHIEVED: Final = "achieved_interval"
RATIO: Final = "ratio_interval"


class _Sums(Struct):
    """Of one detector, by unit; (seeds, ..., resamples) once they are weighed."""

    gaps: list[Floats]  # one a seed: (bins, units), probabilities less anomalies
    alerted: dict[float, Floats]  # by budget: (seeds, units) clean events above the limit


def spread(
    scored: Mapping[str, Scored], truth: Truth, units: Units, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """By detector, what to add to its details: `calibration`, and `budgets` by budget.

    `scored` as checked. Resamples are those of `resample.weights`, so they go with all others.
    """
    sums = {name: _sums(one, truth, units) for name, one in scored.items()}
    events, clean = _by_unit(units, np.ones(len(truth))), _by_unit(units, ~truth.anomalous)
    parts: dict[str, list[tuple[list[Floats], dict[float, Floats]]]] = {n: [] for n in scored}
    totals: list[Floats] = []
    for weight in weights(units, resamples, seed, BINS) if resamples else ():
        totals.append(np.stack([events, clean]) @ weight)
        for name, own in sums.items():
            parts[name].append(
                (
                    [gap @ weight for gap in own.gaps],
                    {share: held @ weight for share, held in own.alerted.items()},
                )
            )
    if not totals:
        return {name: {} for name in scored}
    total = np.concatenate(totals, 1)[:, 1:]
    return {
        name: _told(parts[name], total, len(one.scores), (seed, at))
        for at, (name, one) in enumerate(scored.items())
    }


def _sums(one: Scored, truth: Truth, units: Units) -> _Sums:
    gaps = []
    if one.probabilities is not None:
        bins = bins_of(one.probabilities.reshape(-1)).reshape(one.probabilities.shape)
        count = int(bins.max()) + 1
        for p, own in zip(one.probabilities, bins, strict=True):
            cell = own * units.count + units.of
            gap = np.bincount(cell, p - truth.anomalous, minlength=count * units.count)
            gaps.append(gap.reshape(count, units.count).astype(np.float64, copy=False))
    alerted = {
        share: np.stack(
            [
                _by_unit(units, ~truth.anomalous & (scores > limit))
                for scores, limit in zip(one.scores, limits, strict=True)
            ]
        )
        for share, limits in one.limits.items()
    }
    return _Sums(gaps, alerted)


def _by_unit(units: Units, values: NDArray[Any]) -> Floats:
    return np.bincount(units.of, values, minlength=units.count).astype(np.float64)


def _told(
    parts: list[tuple[list[Floats], dict[float, Floats]]],
    total: Floats,
    seeds: int,
    dice: tuple[int, int],
) -> dict[str, Any]:
    """Among several seeds a resample draws as well."""
    columns = total.shape[1]
    picks = np.random.default_rng((*dice, 2)).integers(0, seeds, (seeds, columns))
    found: dict[str, Any] = {}
    if parts[0][0]:
        gaps = np.stack(
            [np.concatenate([gap[at] for gap, _ in parts], 1)[:, 1:] for at in range(seeds)]
        )
        drawn = np.take_along_axis(gaps, picks[:, None, :], 0).sum(0)
        found["calibration"] = {ERROR: interval(np.abs(drawn).sum(0) / (seeds * total[0]))}
    budgets: dict[str, dict[str, Interval]] = {}
    for share in parts[0][1]:
        held = np.concatenate([alerted[share] for _, alerted in parts], 1)[:, 1:]
        achieved = np.take_along_axis(held, picks, 0).mean(0) / total[1]
        low, high = interval(achieved)
        budgets[label_of(share)] = {ACHIEVED: (low, high), RATIO: (low / share, high / share)}
    return found | ({"budgets": budgets} if budgets else {})
