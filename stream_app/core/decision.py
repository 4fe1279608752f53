"""Stage 5: a calibrated score against its task's threshold.

Pure; where the thresholds come from is the bundle's affair (validation days, never test data).
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.core.score import Floats
from stream_app.core.window import Ints


class Thresholds(Struct, frozen=True):
    """The calibrated score from which an event of a task counts as anomalous, by task index."""

    by_task: tuple[float, ...]


def decide(calibrated: Floats, tasks: Ints, thresholds: Thresholds) -> NDArray[np.bool_]:
    """Which events are anomalous. `tasks[i]` is the task index of the i-th score."""
    limits = np.asarray(thresholds.by_task, np.float32)
    return calibrated >= limits[tasks]
