"""Stage 4: what a scorer says of a batch of windows, and why."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Scores(Struct, frozen=True):
    """One row a window; higher is more unusual."""

    calibrated: Floats  # (windows,) probability of an anomaly under the event's own task, 0 to 1
    surprise: Floats  # (windows,) nats: how unexpected the event was, -log P of its fields
    log_likelihood: Floats  # (windows,) nats: sum of log P(event | those before it); NaN: not asked


class Reason(Struct, frozen=True):
    """One cell of the field x event table that speaks for an anomaly."""

    field: str
    events_back: int  # 0 is the scored event itself, 1 the one before it in the window
    observed: str
    expected: str
    share: float  # of all that speaks for the anomaly, 0 to 1


NO_LIMITS = np.zeros(0, np.float32)
NO_SCORES = Scores(*(np.zeros(0, np.float32) for _ in range(3)))
