"""Where positives stand among negatives, under many weightings of users and campaigns at once.

Every measure of a ranking follows from how much weight of negatives stands above, or level with,
each positive. That is counted once by level and unit (a user, a campaign) in a sparse matrix; a
resample of units is one column of weights, so a thousand resamples are one product. Levels of
equal score are one step: order within them is nobody's merit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9


class Order(Struct, frozen=True):
    """The order of one detector's scores; no weights yet. Levels are those of positives."""

    level: Ints  # (positives,) from the best, 0
    unit: Ints  # (positives,)
    levels: int
    counts: Any  # sparse (2 levels + 1, units): negatives before level 0, at it, before 1, ...

    def weighed(self, weight: Floats) -> Ranking:
        """`weight`: (units, resamples), how often each unit was drawn."""
        through = np.cumsum(self.counts @ weight, axis=0)
        return Ranking(self.level, weight[self.unit], through[0:-1:2], through[1::2], through[-1])


class Ranking(Struct, frozen=True):
    """An order under given weights."""

    level: Ints  # (positives,)
    weight: Floats  # (positives, resamples)
    above: Floats  # (levels, resamples) weight of negatives that score strictly higher
    through: Floats  # (levels, resamples) and those that score the same
    negatives: Floats  # (resamples,) weight of all

    def average_precision(
        self, some: Flags | None = None, prevalence: float | None = None
    ) -> Floats:
        """(resamples,) of the positives among `some` against all negatives.

        `prevalence`: as if positives had that share of the weight. NaN without positives.
        """
        level, weight = self._some(some)
        order = np.argsort(level, kind="stable")
        at, first = np.unique(level[order], return_index=True)
        if not len(at):
            return np.full(len(self.negatives), np.nan)
        gained = np.add.reduceat(weight[order], first, axis=0)
        hits = np.cumsum(gained, axis=0)
        against = self.through[at]
        if prevalence is not None:
            wanted = hits[-1] * (1 - prevalence) / prevalence
            against = against * _share(wanted, self.negatives)
        precision = _share(hits, hits + against, empty=0.0)
        return _share((gained * precision).sum(0), hits[-1])

    def area_under_curve(self, some: Flags | None = None) -> Floats:
        """(resamples,) probability that one of the positives scores above a negative."""
        level, weight = self._some(some)
        below = self.negatives - (self.above[level] + self.through[level]) / 2
        return _share((weight * below).sum(0), weight.sum(0) * self.negatives)

    def alerted(self, share: float) -> Flags:
        """(positives, resamples) whether a budget of that share of negatives reaches so deep.

        Never more than the budget: of equal scores all are alerted or none.
        """
        return np.asarray(self.through <= share * self.negatives + _ROUNDING)[self.level]

    def alerted_of_all(self, share: float) -> Flags:
        """(positives, resamples) whether alerting the top share of *all* weight reaches so deep."""
        order = np.argsort(self.level, kind="stable")
        first = np.searchsorted(self.level[order], np.arange(len(self.through)))
        hits = np.cumsum(np.add.reduceat(self.weight[order], first, axis=0), axis=0)
        total = hits[-1] + self.negatives
        return np.asarray(hits + self.through <= share * total + _ROUNDING)[self.level]

    def recall(self, alerted: Flags, some: Flags | None = None) -> Floats:
        """(resamples,) share of the positives' weight that is alerted."""
        _, weight = self._some(some)
        hit = alerted if some is None else alerted[some]
        return _share((weight * hit).sum(0), weight.sum(0))

    def _some(self, some: Flags | None) -> tuple[Ints, Floats]:
        return (self.level, self.weight) if some is None else (self.level[some], self.weight[some])


def order_of(
    positive: NDArray[np.floating[Any]],
    positive_unit: Ints,
    negative: NDArray[np.floating[Any]],
    negative_unit: Ints,
    units: int,
) -> Order:
    """Scores of positives and negatives, and the unit that each belongs to."""
    from scipy.sparse import coo_array

    levels, level = np.unique(-positive, return_inverse=True)
    before = np.searchsorted(levels, -negative)
    same = before < len(levels)
    same[same] = levels[before[same]] == -negative[same]
    place = 2 * before + same
    counts = coo_array(
        (np.ones(len(negative)), (place, negative_unit)), (2 * len(levels) + 1, units)
    ).tocsr()
    return Order(level, positive_unit, len(levels), counts)


def _share(part: Floats, whole: Floats, empty: float = np.nan) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, empty))
