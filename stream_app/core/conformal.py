"""How rare a score is among those of clean events: its conformal p-value.

    p = (1 + clean events of a slice that score as high or higher) / (1 + clean events of it)

If later clean events are like those of the slice, at most a share p of them scores so high. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.core.score import Floats

_EACH: Final = 32  # highest scores that are kept one by one
_STEP: Final = 1.05  # between the ranks of all others: a p-value is at most so much too large


class Tail(Struct, frozen=True):
    """The scores of clean events, the high ones closely."""

    events: int
    scores: tuple[float, ...]  # rising
    above: tuple[int, ...]  # so many events score higher

    @property
    def sound(self) -> bool:
        falling = np.all(np.diff(self.above) <= 0) and np.all(np.diff(self.scores) >= 0)
        return len(self.scores) == len(self.above) and self.events >= 0 and bool(falling)

    def p_values(self, scores: Floats) -> NDArray[np.float64]:
        """Never below the exact one; NaN stays NaN."""
        found = np.asarray(scores, np.float64)
        at = np.searchsorted(self.scores, found, side="left")
        p = (np.array([self.events, *self.above])[at] + 1) / (self.events + 1)
        return np.where(np.isnan(found), np.nan, p)


def tail_of(clean: Floats, limits: Sequence[float] = ()) -> Tail:
    """Of the scores of clean events. At each of `limits` the p-value is exact."""
    rising = np.sort(np.asarray(clean, np.float64))
    ranks = np.arange(1, min(_EACH, len(rising)) + 1).tolist()
    while ranks and ranks[-1] < len(rising):
        ranks.append(min(len(rising), max(ranks[-1] + 1, int(ranks[-1] * _STEP))))
    below = np.nextafter(np.asarray(limits, np.float32), np.float32(-1)).astype(np.float64)
    scores = np.unique(np.concatenate([rising[len(rising) - np.array(ranks, np.int64)], below]))
    above = len(rising) - np.searchsorted(rising, scores, side="right")
    return Tail(len(rising), tuple(scores.tolist()), tuple(above.tolist()))
