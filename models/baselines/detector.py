"""What judges events offline: a baseline, a member of a bundle, a whole bundle.

A detector is told which events to learn from and which to choose by (rounds, settings). It may look
at the other events of a data set as the stream would: as the past of the event that it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import Dataset
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

Judged = NDArray[np.float64]  # (events,) higher is more unusual


class Detector(Protocol):
    """The same seed and data give the same scores."""

    name: str
    labels: bool  # whether `fit` reads labels

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        """Learn from the events `fit_on`; choose settings by the events `choose_on`."""
        ...

    def score(self, data: Dataset, events: Ints) -> Judged:
        """Higher is more unusual; each event as of itself, whatever comes after it in `data`."""
        ...


class Draw(Struct, frozen=True):
    """One labelled data set to learn from. Several may stand over one background."""

    data: Dataset
    fit_on: Ints
    choose_on: Ints


@runtime_checkable
class DrawLearner(Protocol):
    """A detector that learns from several draws together."""

    def fit_draws(self, draws: Sequence[Draw]) -> None: ...


def fit_draws(detector: Detector, draws: Sequence[Draw]) -> None:
    """Fit on all draws if the detector can, else on the first. Raises Misconfigured."""
    if not draws:
        raise Misconfigured("there is nothing to learn from: give at least one data set")
    if isinstance(detector, DrawLearner):
        detector.fit_draws(draws)
    else:
        detector.fit(draws[0].data, draws[0].fit_on, draws[0].choose_on)
