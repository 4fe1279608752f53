"""Who is judged: bundles and baselines, fitted on the history, scored on each draw.

Limits for alert budgets and the calibration of baselines come from events set aside in the history,
never from those that are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.baselines.detector import Detector, fit_draws
from models.calibration import ENOUGH, Calibration, fit
from models.dataset import Dataset
from models.evaluate.campaign_alerts import Alerted
from models.evaluate.details import Scored, limit_of
from models.evaluate.inputs import History
from models.evaluate.panel import BUDGETS
from stream_app.core.window import Ints

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

T = TypeVar("T")

HALF: Final = 0.5
_BATCH: Final = 1 << 16  # events scored at a time: windows of more would fill the memory


class Scale(Struct, frozen=True):
    """Raw scores of a baseline -> probabilities: in units of their spread, then a line a task."""

    centre: float
    spread: float
    line: Calibration

    def apply(self, raw: Floats, tasks: Ints) -> Floats:
        return self.line.apply((raw - self.centre) / self.spread, tasks).astype(np.float64)


class Outcome(Struct, frozen=True):
    """One seed of a detector on one draw."""

    scores: Floats
    probabilities: Floats | None
    decided: Flags | None
    alerted: Alerted | None = None  # campaign alerts


class Contestant(Protocol):
    """One seed of a detector."""

    name: str
    limits: dict[float, float]

    def prepare(self, history: History) -> None:
        """Fit, and set limits on what is to choose on."""
        ...

    def judge(self, data: Dataset, events: Ints) -> Outcome: ...


class Baseline:
    """A detector, with a calibration if there are labels to fit one to."""

    def __init__(self, detector: Detector, tasks: int) -> None:
        self.name, self.labels = detector.name, detector.labels
        self.limits: dict[float, float] = {}
        self._detector, self._tasks = detector, tasks
        self._scale: Scale | None = None

    def prepare(self, history: History) -> None:
        learns = self._detector.labels and history.taught
        fit_draws(self._detector, history.taught if learns else history.draws)
        draws = history.by
        raw = np.concatenate(
            [np.asarray(self._detector.score(d.data, d.choose_on), np.float64) for d in draws]
        )
        anomalous = np.concatenate([d.data.anomalous[d.choose_on] for d in draws])
        tasks = np.concatenate([d.data.task[d.choose_on] for d in draws])
        self.limits = _limits(raw[~anomalous])
        if min(anomalous.sum(), (~anomalous).sum()) >= ENOUGH and np.isfinite(raw).all():
            centre, spread = float(raw.mean()), float(raw.std()) or 1.0
            line = fit((raw - centre) / spread, anomalous, tasks, self._tasks)
            self._scale = Scale(centre, spread, line)

    def judge(self, data: Dataset, events: Ints) -> Outcome:
        raw = np.asarray(self._detector.score(data, events), np.float64)
        if self._scale is None:
            return Outcome(raw, None, raw > self.limits[max(BUDGETS)] if self.limits else None)
        probabilities = self._scale.apply(raw, data.task[events])
        return Outcome(raw, probabilities, probabilities >= HALF)


class Shipped:
    """A bundle, as the stream would run it: its own calibration, its own thresholds."""

    def __init__(
        self, name: str, folder: Path, device: str = "auto", members: Sequence[str] = ()
    ) -> None:
        """Raises BadBundle, Misconfigured."""
        from models import bundle as bundles

        self.name = name
        self.limits: dict[float, float] = {}
        self.bundle = bundles.load(folder, device)
        if members:
            self.bundle = bundles.choose(self.bundle, members)

    def prepare(self, history: History) -> None:
        draws = history.by
        clean = [d.choose_on[~d.data.anomalous[d.choose_on]] for d in draws]
        scores = [self.score(d.data, some) for d, some in zip(draws, clean, strict=True)]
        self.limits = _limits(np.concatenate(scores))

    def judge(self, data: Dataset, events: Ints) -> Outcome:
        scores = self.score(data, events)
        limits = self.bundle.calibration.decision.of(data.windows.take(events), data.task[events])
        return Outcome(scores, scores, scores >= limits)

    def score(self, data: Dataset, events: Ints) -> Floats:
        from models import bundle as bundles

        parts = [
            bundles.score(self.bundle, data.windows.take(some), data.task[some])
            for some in (events[at : at + _BATCH] for at in range(0, len(events), _BATCH))
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def scored(outcomes: Sequence[Sequence[Outcome]], limits: Sequence[dict[float, float]]) -> Scored:
    """`outcomes`: (seeds, draws) of one detector; draws one after another."""
    all_ = [one for row in outcomes for one in row]
    decided = probabilities = None
    if all(one.decided is not None for one in all_):
        decided = np.stack([np.concatenate([_known(o.decided) for o in row]) for row in outcomes])
    if all(one.probabilities is not None for one in all_):
        probabilities = np.stack(
            [np.concatenate([_known(o.probabilities) for o in row]) for row in outcomes]
        )
    return Scored(
        scores=np.stack([np.concatenate([one.scores for one in row]) for row in outcomes]),
        decided=decided,
        probabilities=probabilities,
        alerted=tuple(one.alerted for one in all_ if one.alerted is not None),
        limits={
            share: [own[share] for own in limits]
            for share in BUDGETS
            if all(share in own for own in limits)
        },
    )


def _known(value: T | None) -> T:
    assert value is not None
    return value


def _limits(clean: Floats) -> dict[float, float]:
    """For the budgets that so few clean events can say something of."""
    return {share: limit_of(clean, share) for share in BUDGETS if share * len(clean) >= 1}
