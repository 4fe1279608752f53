"""What is tuned: an encoder's training, or a baseline. Both are judged on the same events.

A subject is fitted with some settings and judged twice by average precision: on the events that
choose, which is what a study maximises, and on those kept aside, which choose nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.inference import run
from models.measures import average_precision
from models.schema import Schema
from models.training.material import Material
from models.training.members import fit_members
from models.training.options import Options
from models.training.processes import Processes
from models.training.recipe import Progress, rate_for
from models.training.run import plan_of
from models.training.warm_start import Start
from models.training.watch import Watch
from models.tune.settings import TRAIN
from models.tune.space import TRAINING, Settings, Space, usual
from stream_app.core.errors import Misconfigured

Reached = Callable[[int, float], None]  # epoch, its average precision; may raise to end the fit


class Judged(Struct, frozen=True):
    """Average precision of one fit; NaN of those kept aside if no anomaly is among them."""

    chosen_by: float
    kept_aside: float
    seconds: float


class Subject(Protocol):
    name: str  # of the table in a file of settings
    space: Space
    usual: Settings

    def judge(
        self, settings: Settings, material: Material, reached: Reached, say: Progress
    ) -> Judged:
        """The same arguments give the same result on a CPU."""
        ...


class Training:
    """Of the leading encoder; `options` has all that is not in the space."""

    name = TRAIN
    space = TRAINING

    def __init__(
        self, options: Options, schema: Schema, start: Start | None, processes: Processes, bar: bool
    ) -> None:
        self._options, self._schema, self._start = options, schema, start
        self._processes, self._bar = processes, bar
        hidden = options.config(1, start.config if start else None).size.hidden
        rates = self.space["rate"]
        rate = float(np.clip(rate_for(hidden, start is not None), rates.low, rates.high))
        self.usual: Settings = {**usual(self.space), "rate": rate}

    def judge(
        self, settings: Settings, material: Material, reached: Reached, say: Progress
    ) -> Judged:
        began = time.monotonic()
        options = self._options.but(settings)
        window = self._schema.window.size
        plan = plan_of(options, self._schema, self._start, window, len(material.fit_on))
        watch = _Epochs(say, self._bar, reached)
        try:
            members, _ = fit_members(plan, material, self._processes, watch)
        finally:
            watch.close()
        (network,) = members.encoders.values()
        data, events = material.data, _judging(material)
        raw = run(network, data.windows.take(events), self._processes.device).logits
        return _judged(raw[np.arange(len(events)), data.task[events]], material, began)


class Baseline:
    """Told of the same events as the encoder."""

    def __init__(self, name: str, schema: Schema, seed: int, threads: int) -> None:
        """Raises Misconfigured if there is nothing to tune, or no such baseline."""
        from models.baselines import OF_BUNDLE
        from models.baselines.space import SPACES

        if name not in SPACES:
            raise Misconfigured(f"there is no baseline {name!r}: choose {', '.join(SPACES)}")
        if name in OF_BUNDLE:
            raise Misconfigured(f"{name} asks a bundle, and cannot be tuned alone: tune stack")
        if not SPACES[name]:
            some = ", ".join(n for n, space in SPACES.items() if space and n not in OF_BUNDLE)
            raise Misconfigured(f"{name} has nothing to tune; {some} have")
        self.name, self.space = name, SPACES[name]
        self.usual: Settings = usual(self.space)
        self._schema, self._seed, self._threads = schema, seed, threads

    def judge(
        self, settings: Settings, material: Material, reached: Reached, say: Progress
    ) -> Judged:
        from models.baselines import detectors

        began = time.monotonic()
        (one,) = detectors(
            [self.name],
            self._seed,
            self._threads,
            settings={self.name: settings},
            schema=self._schema,
        )
        one.fit(material.data, material.fit_on, material.choose_on)
        return _judged(one.score(material.data, _judging(material)), material, began)


class _Epochs(Watch):
    """Tells how each epoch did."""

    def __init__(self, say: Progress, bar: bool, reached: Reached) -> None:
        super().__init__(say, bar=bar)
        self._reached = reached

    def curve(self, name: str, value: float, at: int) -> None:
        if name == "average precision":
            self._reached(at, value)


def _judging(material: Material) -> NDArray[np.int64]:
    return np.concatenate([material.choose_on, material.calibrate_on])


def _judged(scores: NDArray[Any], material: Material, began: float) -> Judged:
    chosen, aside = np.split(scores, [len(material.choose_on)])
    anomalous = material.data.anomalous
    return Judged(
        average_precision(chosen, anomalous[material.choose_on]),
        average_precision(aside, anomalous[material.calibrate_on]),
        time.monotonic() - began,
    )
