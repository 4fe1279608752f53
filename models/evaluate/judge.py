"""Scores of some detectors on the same events -> all measures of all of them, paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluate.details import Scored, checked, details_of
from models.evaluate.panel import (
    AP,
    AUC,
    LOOK_ALIKE_AUC,
    RARE_AP,
    Key,
    Panel,
    Sides,
    panel_of,
    sides_of,
)
from models.evaluate.report import Count, Difference, Measured, Report
from models.evaluate.resample import Units, units_of, weights
from models.evaluate.spread import spread
from models.evaluate.summary import (
    Sampled,
    difference_of,
    figure_of,
    mean_known,
    nested,
    sampled,
)
from models.evaluate.truth import SEEN, UNSEEN, Truth, check
from models.simulate.world import DIFFICULTIES
from stream_app.core.errors import Misconfigured

Array = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]

_BY_RUN: Final = (AP, RARE_AP, AUC, LOOK_ALIKE_AUC)


def judge(
    named_scores: Mapping[str, Array | Scored],
    truth: Truth,
    *,
    reference: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Measure every detector, and the difference of `reference` (else the first) to the others.

    `bootstrap`: resamples of users and campaigns; 0 for no intervals. With scores of several
    seeds, a resample also draws among these. `progress` is told of resamples done, and of all.
    Raises Misconfigured if scores do not fit the truth or are not finite, or if one class is
    missing.
    """
    check(truth)
    if not named_scores:
        raise Misconfigured("there is no detector to judge")
    scored = {name: checked(name, given, truth) for name, given in named_scores.items()}
    first = next(iter(scored)) if reference is None else reference
    if first not in scored:
        raise Misconfigured(f"there is no detector {first!r} to compare with the others")
    units = units_of(truth)
    sides = [sides_of(truth, units, draw) for draw in np.unique(truth.draw).tolist()]
    panels = {
        name: [[panel_of(scores[side.events], side) for side in sides] for scores in given.scores]
        for name, given in scored.items()
    }
    found = _resampled(panels, units, bootstrap, seed, progress)
    intervals = spread(scored, truth, units, bootstrap, seed)
    differences = {
        name: {key: difference_of(key, found[first][key], one) for key, one in own.items()}
        for name, own in found.items()
        if name != first
    }
    return Report(
        reference=first,
        counts=_counts(truth, units, sides),
        groups=_group_counts(truth, units),
        detectors={
            name: _measured(
                found[name],
                _with_intervals(details_of(given, truth, panels[name], sides), intervals[name]),
            )
            for name, given in scored.items()
        },
        differences={
            name: {key[2]: one for key, one in own.items() if not key[0]}
            for name, own in differences.items()
        },
        group_differences={name: _by_group(own) for name, own in differences.items()},
        bootstrap=bootstrap,
        seed=seed,
    )


def _resampled(
    panels: Mapping[str, Sequence[Sequence[Panel]]],
    units: Units,
    bootstrap: int,
    seed: int,
    progress: Progress | None,
) -> dict[str, dict[Key, Sampled]]:
    points: dict[str, dict[Key, Floats]] = {name: {} for name in panels}
    chunks: dict[str, dict[Key, Floats]] = {name: {} for name in panels}
    done = 0
    any_of = next(iter(panels.values()))[0]  # draws are the same for all
    rows = max(len(panel.sides.positive) for panel in any_of)
    for weight in weights(units, bootstrap, seed, rows):
        width = weight.shape[1]
        for name, by_seed in panels.items():
            for at, by_draw in enumerate(by_seed):
                measured = [panel.at(weight) for panel in by_draw]
                for key in {key: None for one in measured for key in one}:
                    nothing = np.full(width, np.nan)
                    values = np.stack([one.get(key, nothing) for one in measured])
                    shape = (len(by_seed), bootstrap + 1)
                    held = chunks[name].setdefault(key, np.full(shape, np.nan))
                    held[at, done : done + width] = mean_known(values, 0)
                    if done == 0:
                        shape = (len(by_seed), len(by_draw))
                        first = points[name].setdefault(key, np.full(shape, np.nan))
                        first[at] = values[:, 0]
        done += width
        if progress is not None:
            progress(done, bootstrap + 1)
    return {
        name: _sampled_of(points[name], chunks[name], (seed, number))
        for number, name in enumerate(panels)
    }


def _sampled_of(
    points: Mapping[Key, Floats], by_seed: Mapping[Key, Floats], seed: tuple[int, int]
) -> dict[Key, Sampled]:
    count, columns = next(iter(by_seed.values())).shape
    picks = np.random.default_rng((*seed, 1)).integers(0, count, (count, columns - 1))
    return {key: sampled(points[key], values, picks) for key, values in by_seed.items()}


def _measured(found: Mapping[Key, Sampled], details: dict[str, Any]) -> Measured:
    figures = {key: figure_of(one) for key, one in found.items()}
    return Measured(
        figures={measure: f for (group, _, measure), f in figures.items() if not group},
        groups={
            group: {
                value: {measure: figures[group, value, measure] for measure in measures}
                for value, measures in values.items()
            }
            for group, values in nested(found).items()
        },
        runs={
            measure: one.points.tolist()
            for (group, _, measure), one in found.items()
            if not group and measure in _BY_RUN
        },
        details=details,
    )


def _with_intervals(details: dict[str, Any], intervals: dict[str, Any]) -> dict[str, Any]:
    if "calibration" in intervals:
        details["calibration"] |= intervals["calibration"]
    for budget, own in intervals.get("budgets", {}).items():
        details["budgets"][budget] |= own
    return details


def _by_group(
    differences: Mapping[Key, Difference],
) -> dict[str, dict[str, dict[str, Difference]]]:
    return {
        group: {
            value: {measure: differences[group, value, measure] for measure in measures}
            for value, measures in values.items()
        }
        for group, values in nested(differences).items()
    }


def _counts(truth: Truth, units: Units, sides: Sequence[Sides]) -> dict[str, Any]:
    alike, kinds = np.unique(truth.group("look_alike")[~truth.anomalous], return_counts=True)
    return {
        "draws": len(sides),
        "events": len(truth),
        "anomalies": int(truth.anomalous.sum()),
        "prevalence": float(np.mean([side.prevalence for side in sides])),
        "prevalence_of_draws": [side.prevalence for side in sides],
        "users": len(units.strata[0]),
        "clean_users": [len(side.clean_unit) for side in sides],
        "campaigns": sum(len(side.campaigns) for side in sides),
        "look_alikes": {
            kind: count for kind, count in zip(alike.tolist(), kinds.tolist(), strict=True) if kind
        },
        "first_ms": int(truth.at_ms.min()),
        "last_ms": int(truth.at_ms.max()),
    }


def _group_counts(truth: Truth, units: Units) -> dict[str, dict[str, Count]]:
    found: dict[str, dict[str, Count]] = {}
    for name, values in truth.groups.items():
        if name == "look_alike":
            continue
        normal = set(values[~truth.anomalous].tolist()) - {""}
        found[name] = {}
        there = set(values[truth.anomalous].tolist()) - {""}
        for value in sorted(there, key=_rank):
            own = values == value
            anomalous = own & truth.anomalous
            against = own if value in normal else anomalous | ~truth.anomalous
            found[name][value] = Count(
                events=int(own.sum()),
                anomalies=int(anomalous.sum()),
                campaigns=len(np.unique(units.campaign[anomalous])),
                prevalence=float(anomalous.sum() / against.sum()),
            )
    return found


def _rank(value: str) -> tuple[int, str]:
    """Difficulties as they rise, seen before unseen, all else by name."""
    first = (*DIFFICULTIES, SEEN, UNSEEN)
    return (first.index(value) if value in first else -1, value)
