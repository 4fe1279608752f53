"""Velocity rules: what shops do today. Too many events in too short a time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.detector import Judged
from models.dataset import Dataset
from stream_app.core.window import HEAD, Ints, Windows

_SPANS_MS: Final = (10_000, 60_000, 600_000, 3_600_000)
_BATCH: Final = 8192


class Velocity:
    """A rule for each span: on all events of a user, on those of the same type, the same item, ...

    Its limit is what hardly any event reaches. The score is how far the most exceeded limit is
    exceeded.
    """

    name = "velocity"
    labels = False

    def __init__(self, quantile: float = 0.999) -> None:
        """A rule lets the share `quantile` of the events pass, taken as they come."""
        self._quantile = quantile
        self._limits = np.zeros(0)

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self._limits = np.quantile(_counts(data, fit_on), self._quantile, axis=0)

    def score(self, data: Dataset, events: Ints) -> Judged:
        rates = np.log1p(_counts(data, events)) - np.log1p(self._limits)
        return np.asarray(rates.max(1) + 1e-3 * rates.mean(1), np.float64)


def _counts(data: Dataset, events: Ints) -> NDArray[np.float64]:
    """(events, rules): the event itself and those before it in each span."""
    parts = [
        _counts_of(data.windows.take(events[at : at + _BATCH]))
        for at in range(0, len(events), _BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def _counts_of(windows: Windows) -> NDArray[np.float64]:
    rows, index, inside = windows.rows, windows.index, windows.mask()
    age_ms = rows["at_ms"][index[:, -1]][:, None] - rows["at_ms"][index]
    spare = {name for name, _ in HEAD} | {"spare"}
    names = [n for n in rows.dtype.names or () if n not in spare]
    alike = [inside]
    for name in names:
        if rows.dtype[name].kind == "u" and (name == "type" or rows.dtype[name].itemsize > 1):
            value = rows[name][index]
            alike.append(inside & (value == value[:, -1:]) & (value[:, -1:] != 0))
    found = [(same & (age_ms <= span)).sum(1) for same in alike for span in _SPANS_MS]
    return np.stack(found, 1).astype(np.float64)
