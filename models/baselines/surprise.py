"""The encoder's surprise alone: how unexpected an event is, and how predictable its user."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.detector import Judged
from models.bundle import Bundle, opinions
from models.counters.act import SLOTS, streams
from models.dataset import Dataset
from models.trees import Table
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

_RECENT: Final = 8  # events whose mean tells how predictable a user is
_ENOUGH: Final = 3
_BATCH: Final = 1 << 15  # windows at a time

Typical = tuple[NDArray[np.float64], NDArray[np.float64]]  # middle and spread


class Surprise:
    """Both tails: far more than usual for events of the type, or, over a few events, far less."""

    name = "surprise"
    labels = False

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._of_type: Typical | None = None
        self._of_means: Typical | None = None

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        nats, slot = asked(self._bundle, data)[:, -1].astype(np.float64), _slots(data)
        middle, spread = np.zeros(SLOTS), np.ones(SLOTS)
        for at in range(SLOTS):
            own = nats[fit_on][slot[fit_on] == at]
            if len(own):
                middle[at], spread[at] = _typical(own)
        self._of_type = middle, spread
        means = _means(data, (nats - middle[slot]) / spread[slot])[fit_on]
        known = means[~np.isnan(means)]
        centre, width = _typical(known) if len(known) else (0.0, 1.0)
        self._of_means = np.array(centre), np.array(width)

    def score(self, data: Dataset, events: Ints) -> Judged:
        if self._of_type is None or self._of_means is None:
            raise Misconfigured("surprise is not fitted")
        nats, slot = asked(self._bundle, data)[:, -1].astype(np.float64), _slots(data)
        middle, spread = self._of_type
        single = (nats - middle[slot]) / spread[slot]
        means = (_means(data, single) - self._of_means[0]) / self._of_means[1]
        return np.maximum(np.abs(single), np.abs(np.nan_to_num(means)))[events]


def asked(bundle: Bundle, data: Dataset) -> Table:
    """(events of `data`, members + 1) what each member says, and the surprise in nats."""
    parts = []
    for at in range(0, len(data), _BATCH):
        some = np.arange(at, min(at + _BATCH, len(data)))
        said = opinions(bundle, data.windows.take(some), data.task[some])
        parts.append(np.column_stack([said.raw, said.surprise]))
    return np.concatenate(parts).astype(np.float32)


def _slots(data: Dataset) -> Ints:
    kinds = data.windows.rows["type"][data.row].astype(np.int64)
    return np.clip(kinds - 1, 0, SLOTS - 1)


def _typical(values: NDArray[np.float64]) -> tuple[float, float]:
    """Middle and spread; a few outliers do not move them."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(middle), float(high - low) / 1.35 + 1e-3


def _means(data: Dataset, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(events,) over the user's newest events up to each; NaN where they are too few."""
    found = np.full(len(values), np.nan)
    for part in streams(data):
        newest: dict[int, deque[float]] = {}
        for at in range(part.start, part.stop):
            own = newest.setdefault(int(data.user[at]), deque(maxlen=_RECENT))
            own.append(float(values[at]))
            if len(own) >= _ENOUGH:
                found[at] = sum(own) / len(own)
    return found
