"""Stage 5: a calibrated score against the threshold of its task, and of its part of the shop.

Pure; where the thresholds come from is the bundle's affair (validation days, never test data).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from msgspec import field as attribute
from numpy.typing import NDArray

from stream_app.core.conformal import Tail
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Windows


class Thresholds(Struct, frozen=True):
    """The calibrated score from which an event counts as anomalous."""

    by_task: tuple[float, ...]  # by task index
    field: str | None = None  # the category of a row by which the shop is parted into segments
    by_segment: Mapping[int, tuple[float, ...]] = attribute(default_factory=dict)  # by its hash
    tails: tuple[Tail, ...] = ()  # of clean scores: none, one of all events, or one a task

    def of(self, windows: Windows, tasks: Ints) -> Floats:
        """(windows,) the threshold of each window's own event; `tasks` are task indices."""
        limits = np.asarray(self.by_task, np.float32)[tasks]
        if self.field is None or not self.by_segment:
            return limits
        segment = windows.rows[self.field][windows.index[:, -1]]
        for hashed, by_task in self.by_segment.items():
            own = segment == hashed
            limits[own] = np.asarray(by_task, np.float32)[tasks[own]]
        return limits

    def p_values(self, calibrated: Floats, tasks: Ints) -> NDArray[np.float64] | None:
        """(windows,) how rare each score is among clean events; None where nobody knows."""
        if not self.tails:
            return None
        if len(self.tails) == 1:
            return self.tails[0].p_values(calibrated)
        every = np.stack([tail.p_values(calibrated) for tail in self.tails])
        found: NDArray[np.float64] = every[tasks, np.arange(len(tasks))]
        return found


def decide(calibrated: Floats, limits: Floats) -> NDArray[np.bool_]:
    """Which events are anomalous: at their threshold or above. A NaN is not."""
    decided: NDArray[np.bool_] = calibrated >= limits
    return decided
