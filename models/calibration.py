"""Raw scores of a task -> the probability of an anomaly. Fitted on held-out users only.

A straight line on logits (Platt) first; a later slice of the shop's own events may bend it further
(`recalibrated`). A task with few anomalies among them shares the calibration of all tasks together.
The share of anomalies that the fit saw is kept: a probability is only as good as that share is
right for the shop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from stream_app.core.conformal import Tail
from stream_app.core.decision import Thresholds
from stream_app.core.score import Floats

ENOUGH: Final = 30  # anomalies, and as many normal events
_STEEPEST: Final = 10.0

Array = NDArray[np.floating[Any]]


class Line(Struct, frozen=True):
    """Calibrated logit = slope * raw + offset."""

    slope: float
    offset: float
    anomalies: int  # that it was fitted on
    events: int


class Curve(Struct, frozen=True):
    """Probability -> a better one: straight between points that rise from (0, 0) to (1, 1)."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Segment(Struct, frozen=True):
    """A part of the shop with thresholds of its own."""

    name: str  # as events have it
    hashed: int  # as rows have it
    thresholds: tuple[float, ...]  # by task index


class Calibration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """By task index."""

    lines: tuple[Line, ...]
    thresholds: tuple[float, ...]
    curves: tuple[Curve, ...] = ()  # none, or one a task
    segment_field: str | None = None  # the category field that parts the shop
    segments: tuple[Segment, ...] = ()
    clean: tuple[Tail, ...] = ()  # calibrated scores of clean events: none, one of all, one a task

    def apply(self, raw: Array, tasks: Sequence[int] | NDArray[np.integer[Any]]) -> Floats:
        """Calibrated scores; NaN stays NaN."""
        task = np.asarray(tasks, np.int64)
        slope = np.array([line.slope for line in self.lines])[task]
        offset = np.array([line.offset for line in self.lines])[task]
        logit = np.clip(slope * raw + offset, -50, 50)
        found = 1 / (1 + np.exp(-logit))
        for at, curve in enumerate(self.curves):
            own = task == at
            found[own] = np.interp(found[own], curve.x, curve.y)
        return np.asarray(found, np.float32)

    @property
    def decision(self) -> Thresholds:
        """The thresholds as the stream holds scores against them."""
        by_segment = {segment.hashed: segment.thresholds for segment in self.segments}
        return Thresholds(self.thresholds, self.segment_field, by_segment, self.clean)


def fit(
    raw: Array,
    anomalous: NDArray[np.bool_],
    tasks: NDArray[np.integer[Any]],
    task_count: int,
    prior: float | None = None,
) -> Calibration:
    """From events of held-out users.

    `prior`: the share of anomalies where scores will be used, if the events hold more or fewer.
    """
    together = _platt(raw, anomalous)
    shift = 0.0
    if prior is not None and 0 < anomalous.sum() < len(anomalous):
        shift = _log_odds(prior) - _log_odds(float(anomalous.mean()))
    lines = []
    for task in range(task_count):
        own = tasks == task
        anomalies = int(anomalous[own].sum())
        enough = min(anomalies, int(own.sum()) - anomalies) >= ENOUGH
        line = _platt(raw[own], anomalous[own]) if enough else together
        lines.append(structs.replace(line, offset=line.offset + shift))
    return Calibration(tuple(lines), (0.5,) * task_count)


def _log_odds(share: float) -> float:
    return float(np.log(share / (1 - share)))


def _platt(raw: Array, anomalous: NDArray[np.bool_]) -> Line:
    """Logistic regression on one number: damped Newton, smoothed targets, a bounded slope."""
    events, anomalies = len(raw), int(anomalous.sum())
    x = np.asarray(raw, np.float64)
    target = np.where(anomalous, (anomalies + 1) / (anomalies + 2), 1 / (events - anomalies + 2))
    rate = float(target.mean()) if events else 0.5
    slope, offset = 1.0, float(np.log(rate / (1 - rate)) - (x.mean() if events else 0))
    if min(anomalies, events - anomalies) == 0:
        return Line(0.0, float(np.log(rate / (1 - rate))), anomalies, events)

    def loss(a: float, b: float) -> float:
        z = a * x + b
        return float((np.logaddexp(0, z) - target * z).sum() + 0.01 * (a - 1) ** 2)

    now = loss(slope, offset)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(slope * x + offset, -50, 50)))
        weight, error = p * (1 - p), p - target
        gradient = np.array([(error * x).sum() + 0.02 * (slope - 1), error.sum()])
        cross = (weight * x).sum()
        hessian = np.array(
            [[(weight * x * x).sum() + 0.02, cross], [cross, weight.sum()]]
        ) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-4:
            a = float(np.clip(slope - size * step[0], 1e-3, _STEEPEST))
            b = float(offset - size * step[1])
            then = loss(a, b)
            if then <= now:
                break
            size /= 2
        else:
            break
        better, (slope, offset, now) = now - then, (a, b, then)
        if better < 1e-9:
            break
    return Line(slope, offset, anomalies, events)
