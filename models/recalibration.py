"""A calibration made to fit a later slice of a shop's own events.

    keep         as it is
    temperature  all logits divided by one number
    platt        a new straight line a task
    isotonic     the line bent into a rising curve, through the centres of its level parts

Fitted on labelled events of a later slice only; what is told of the fit is measured on users that
it did not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from models.calibration import ENOUGH, Array, Calibration, Curve, fit
from models.extra import missing
from stream_app.core.errors import Misconfigured

Method = Literal["keep", "temperature", "platt", "isotonic"]
METHODS: Final[tuple[str, ...]] = get_args(Method)

Flags = NDArray[np.bool_]
Tasks = NDArray[np.integer[Any]]


def check(method: str, labelled: bool) -> None:
    """Whether it is one, and has what it needs; before the work. Raises Misconfigured."""
    if method not in METHODS:
        raise Misconfigured(f"there is no method {method!r}: choose {', '.join(METHODS)}")
    if method != "keep" and not labelled:
        raise Misconfigured(
            f"--method {method} needs --labels; keep goes without, and only sets thresholds"
        )
    if method == "isotonic":
        _regression()


def refit(
    before: Calibration, raw: Array, anomalous: Flags, tasks: Tasks, method: Method
) -> Calibration:
    """`before`, with its lines and curves fitted to these events; thresholds stay.

    Raises Misconfigured if there are too few anomalies or normal events.
    """
    if method == "keep":
        return before
    fewer = min(int(anomalous.sum()), int((~anomalous).sum()))
    if fewer < ENOUGH:
        raise Misconfigured(
            f"there are {int(anomalous.sum())} anomalies among {len(anomalous)} labelled events: "
            f"a new calibration needs {ENOUGH} of either kind. Label more, or keep the calibration "
            "(--method keep) and only set thresholds"
        )
    if method == "temperature":
        return _cooled(before, raw, anomalous, tasks)
    count = len(before.lines)
    after = structs.replace(before, lines=fit(raw, anomalous, tasks, count).lines, curves=())
    if method == "platt":
        return after
    scores = after.apply(raw, tasks)
    together = _centred(scores, anomalous)
    curves = []
    for task in range(count):
        own = tasks == task
        positive = int(anomalous[own].sum())
        enough = min(positive, int(own.sum()) - positive) >= ENOUGH
        curves.append(_centred(scores[own], anomalous[own]) if enough else together)
    return structs.replace(after, curves=tuple(curves))


def held_out(
    before: Calibration, raw: Array, anomalous: Flags, tasks: Tasks, users: Tasks, method: Method
) -> NDArray[np.float32]:
    """Calibrated scores of each event by a fit on the other half of the users."""
    numbers = np.unique(users, return_inverse=True)[1]
    half = np.random.default_rng(0).permutation(numbers.max() + 1)[numbers] % 2
    found = np.empty(len(raw), np.float32)
    for part in (0, 1):
        own = half == part
        other = refit(before, raw[~own], anomalous[~own], tasks[~own], method)
        found[own] = other.apply(raw[own], tasks[own])
    return found


def _cooled(before: Calibration, raw: Array, anomalous: Flags, tasks: Tasks) -> Calibration:
    def at(heat: float) -> Calibration:
        scale = float(np.exp(-heat))
        lines = tuple(
            structs.replace(line, slope=line.slope * scale, offset=line.offset * scale)
            for line in before.lines
        )
        return structs.replace(before, lines=lines, curves=())

    def loss(heat: float) -> float:
        p = np.clip(at(heat).apply(raw, tasks).astype(np.float64), 1e-12, 1 - 1e-9)
        return float(-np.where(anomalous, np.log(p), np.log1p(-p)).sum())

    return at(_lowest(loss, -3.0, 3.0))


def _lowest(loss: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search for the minimum of a function with one valley."""
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return (low + high) / 2


def _regression() -> Any:
    """Raises Misconfigured if scikit-learn is not installed."""
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise missing("--method isotonic", "scikit-learn") from error
    return IsotonicRegression()


def _centred(scores: NDArray[np.float32], anomalous: Flags) -> Curve:
    """Isotonic regression, straight between the centres of its level parts: so it keeps the order
    of scores within a part, where plain isotonic regression makes them equal.
    """
    order = np.argsort(scores, kind="stable")
    x, y = scores[order].astype(np.float64), anomalous[order].astype(np.float64)
    level = _regression().fit_transform(x, y)
    begins = np.append(0, np.flatnonzero(np.diff(level)) + 1)
    events = np.diff(np.append(begins, len(x)))
    centre = np.add.reduceat(x, begins) / events
    # Half an event of either kind: no probability is 0 or 1 because a part is small.
    share = (np.add.reduceat(y, begins) + 0.5) / (events + 1)
    rising = np.maximum.accumulate(share)
    inner = (centre > 1e-9) & (centre < 1 - 1e-9)
    inner &= np.append(True, np.diff(centre) > 1e-9)
    return Curve((0.0, *centre[inner].tolist(), 1.0), (0.0, *rising[inner].tolist(), 1.0))
