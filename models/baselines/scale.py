"""Aggregates on one scale, for detectors that measure distance or density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.detector import Draw
from models.counters.aggregates import Memory
from models.trees import Table

_EDGES: Final = (0.001, 0.999)  # quantiles; what is beyond them counts as there
_FEWEST: Final = 0.05  # share of events that must have a number
_MOST: Final = 1.0 - 1e-3  # share of events that may have the same one

Points = NDArray[np.float64]


class Scale:
    """Mean 0 and deviation 1 over the events that it was made from; what is missing is the mean.

    Numbers that hardly any event has, or that nearly all share, are left out.
    """

    def __init__(self, table: Table) -> None:
        present = ~np.isnan(table)
        kept = present.mean(0) >= _FEWEST
        for at in np.flatnonzero(kept):
            values = table[present[:, at], at]
            kept[at] = np.unique(values, return_counts=True)[1].max() <= _MOST * len(values)
        self._kept = np.flatnonzero(kept)
        some = table[:, self._kept].astype(np.float64)
        self._low, self._high = np.nanquantile(some, _EDGES, axis=0)
        some = np.clip(some, self._low, self._high)
        self._mean, self._deviation = np.nanmean(some, 0), np.nanstd(some, 0) + 1e-9

    def apply(self, table: Table) -> Points:
        """(events, kept columns)"""
        some = np.clip(table[:, self._kept].astype(np.float64), self._low, self._high)
        return np.asarray(np.nan_to_num((some - self._mean) / self._deviation), np.float64)


def sample(memory: Memory, draws: Sequence[Draw], most: int, seed: int) -> Table:
    """Aggregates of at most `most` of the events to fit on, of all draws; no labels."""
    rng = np.random.default_rng(seed)
    each = max(1, most // len(draws))
    tables = []
    for draw in draws:
        some = draw.fit_on
        if len(some) > each:
            some = np.sort(rng.choice(some, each, replace=False))
        tables.append(memory.of(draw.data).values[some])
    return np.concatenate(tables)
