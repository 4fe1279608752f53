"""One detector of the Taobao study: fitted to the replicas, chosen by the validation draws, asked
about every event of the test draws as of itself.

    enter           a recipe of members        -> what it says of the test draws
    compete         a baseline                 -> likewise

All learn from the same draws: replicas to fit to, validation draws to choose by. What is told is
kept as `NAME.SEED.npz` in the fold's folder, so a study that was broken off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct, structs
from numpy.typing import NDArray

from models import schema as schemas
from models.baselines.boosting import Boosted, Forest, Growth
from models.baselines.detector import Detector, Draw, Judged
from models.baselines.networks import RandomEncoder
from models.baselines.stack import Stack
from models.baselines.unlabelled import SHAPES, Unlabelled
from models.baselines.velocity import Velocity
from models.committee import hear
from models.counters.aggregates import Memory
from models.dataset import Dataset
from models.evaluate.details import limit_of
from models.evaluate.panel import BUDGETS
from models.inference import run as run_network
from models.members import Members
from models.network import Network
from models.schema import Schema
from models.training import objective
from models.training.finish import calibrated
from models.training.material import CROWDS_WEIGH, Material
from models.training.members import Plan, fit_members
from models.training.options import Options
from models.training.processes import Processes
from models.training.watch import Watch
from models.trees import Table
from scripts.study.parts import PRIOR, Floats, Kept, Part, Read, load, material
from stream_app.core.window import Ints

BASELINES: Final = ("stack", "boosted", "boosted-own", "velocity", "random-encoder", *SHAPES)


class Entrant(Struct, frozen=True, kw_only=True):
    """A recipe. `members` share one schema; `pure`: the surprise of the first alone."""

    name: str
    schema: str = "shop-context"
    members: tuple[str, ...] = ("bert", "bert-2", "gru", "gru-2", "trees", "second")
    span_s: int | None = None  # of a window, if not the schema's
    pretrain_epochs: int = 2
    counted: bool = True  # encoders see counts over the window
    guessing: bool = True  # encoders learn to guess events, beside the labels
    pure: bool = False
    crowds: float = CROWDS_WEIGH  # weight of honest crowds in the loss
    options: dict[str, Any] = {}
    seeds: int = 0  # at most; 0: as many as asked

    @property
    def read_as(self) -> Schema:
        schema = schemas.load(self.schema)
        return schema if self.span_s is None else structs.replace(schema, span_s=self.span_s)


def enter(folder: Path, entrant: Entrant, seed: int, device: str) -> str:
    """Fit a recipe and keep what it and each of its members say."""
    out = folder / f"{entrant.name}.{seed}.npz"
    if out.exists():
        return str(out)
    torch.set_num_threads(1)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{folder.name} {out.stem}: {time.monotonic() - began:.0f} s: {what}", flush=True)

    schema = entrant.read_as
    known = load(folder, schema, Kept())
    learnt = material(known, seed, entrant.crowds)
    where = Processes(torch.device(device))
    options = Options(
        schema=entrant.schema,
        members=entrant.members,
        seed=seed,
        pretrain_epochs=entrant.pretrain_epochs,
    ).but(entrant.options)
    config = options.config(schema.window.size)
    plan = Plan(
        names=entrant.members,
        schema=schema,
        config=config,
        recipe=options.recipe(len(learnt.fit_on), config.size.hidden, warm=False),
    )
    with _without(entrant):
        members, _ = fit_members(plan, learnt, where, Watch(say))
        say("asked about the test draws")
        told = (
            {"": _surprise(members, known, where.device)}
            if entrant.pure
            else _said(members, learnt, known, where.device)
        )
    keep(out, told)
    return str(out)


def _said(
    members: Members, learnt: Material, known: Read, device: torch.device
) -> dict[str, Floats]:
    """Of all together (""), of each, as calibrated probabilities ("~") and limits for budgets."""
    fusion, _ = calibrated(members, learnt.data, learnt.calibrate_on, PRIOR, device)
    own = list(members.trees)

    def heard(p: Part) -> tuple[Floats, Floats, Floats]:
        windows, tasks = p.data.windows.take(p.events), p.data.task[p.events]
        raw = hear(members, members.names, windows, tasks, device).raw
        mean = fusion.mean(raw, members.names, own, tasks)
        final = fusion.final(members.names).apply(mean, tasks)
        return fusion.log_odds(raw, members.names, tasks), mean, final

    tests = [heard(p) for p in known.tests]
    told = {"": np.concatenate([mean for _, mean, _ in tests])}
    told["~"] = np.concatenate([final for _, _, final in tests])
    odds = np.concatenate([odds for odds, _, _ in tests])
    if len(members.names) > 1:
        told |= {f": {name}": odds[:, at] for at, name in enumerate(members.names)}
    earlier = [heard(p)[1][~p.data.anomalous[p.events]] for p in known.valid]
    told["limits"] = _limits(np.concatenate(earlier))
    return told


def _surprise(members: Members, known: Read, device: torch.device) -> Floats:
    return np.concatenate(
        [
            run_network(members.lead, p.data.windows.take(p.events), device).surprise
            for p in known.tests
        ]
    )


@contextmanager
def _without(entrant: Entrant) -> Iterator[None]:
    """Networks that see only what an event itself has, or guess nothing, if the recipe says so."""
    usual, weight = Network.embed, objective._GUESS_WEIGHT
    if not entrant.counted:
        Network.embed = (  # type: ignore[method-assign]
            lambda self, inputs, counted=True: usual(self, inputs, False)
        )
    if not entrant.guessing:
        objective._GUESS_WEIGHT = 0.0  # type: ignore[misc]
    try:
        yield
    finally:
        Network.embed = usual  # type: ignore[method-assign]
        objective._GUESS_WEIGHT = weight  # type: ignore[misc]


# -- baselines --------------------------------------------------------------------------------


def compete(folder: Path, name: str, seed: int, threads: int, growth: dict[str, Any]) -> str:
    """Fit a baseline and keep what it says. It reads the plain shop schema."""
    out = folder / f"{name}.{seed}.npz"
    if out.exists():
        return str(out)
    torch.set_num_threads(threads)
    schema, memory = schemas.load("shop"), Kept()
    known = load(folder, schema, memory)
    detector = _detector(name, schema, memory, seed, threads, growth)
    if detector.labels:
        detector.fit_draws(draws(known))  # type: ignore[attr-defined]
    else:
        detector.fit(known.history.data, known.history.events, known.history.events)
    earlier = [
        np.asarray(detector.score(p.data, p.events), np.float32)[~p.data.anomalous[p.events]]
        for p in known.valid
    ]
    told = {"": asked(detector, known), "limits": _limits(np.concatenate(earlier))}
    keep(out, {key: np.asarray(value, np.float32) for key, value in told.items()})
    return str(out)


def draws(known: Read) -> list[Draw]:
    """Replicas to fit to, validation draws to choose by."""
    nobody = np.zeros(0, np.int64)
    fit = [Draw(p.data, p.events, nobody) for p in known.replicas]
    return fit + [Draw(p.data, nobody, p.events) for p in known.valid]


def asked(detector: Detector, known: Read) -> Judged:
    """(events of the test draws,)"""
    if isinstance(detector, Following):
        detector.past = int(known.tests[0].events[0])
    return np.concatenate([detector.score(p.data, p.events) for p in known.tests])


class Following(Stack):
    """A stack that is asked about several futures of one past: of that it is asked once.

    `past`: so many events are the same in all that it is asked about from now on.
    """

    past = 0

    def table(self, data: Dataset) -> Table:
        self._known: dict[int, Any] = getattr(self, "_known", {})
        if not self.past:
            return super().table(data)
        every, told = np.arange(len(data)), []
        for detector in self._unlabelled:

            def score(some: slice, asked: Unlabelled = detector) -> Judged:
                return asked.score(data, every[some])

            told.append(self._once(id(detector), score))
        return np.column_stack([self._memory.of(data).values, *told]).astype(np.float32)

    def _judge(
        self, look: Sequence[Forest], table: Table, data: Dataset, fit_on: Ints | None = None
    ) -> Judged:
        if not self.past:
            return super()._judge(look, table, data, fit_on)
        known = []
        for forest in look:

            def logits(some: slice, asked: Forest = forest) -> Judged:
                return asked.logits(table[some])

            known.append(_Told(self._once(id(forest), logits)))
        return super()._judge(known, table, data, fit_on)  # type: ignore[arg-type]

    def _once(self, key: int, ask: Callable[[slice], Judged]) -> Judged:
        if key not in self._known:
            self._known[key] = ask(slice(None, self.past))
        return np.concatenate([self._known[key], ask(slice(self.past, None))])


class _Told(Struct, frozen=True):
    """A forest whose answer is known."""

    answer: Judged

    def logits(self, table: Table) -> Judged:
        return self.answer


def _detector(
    name: str, schema: Schema, memory: Memory, seed: int, threads: int, growth: dict[str, Any]
) -> Detector:
    if name == "stack":
        looks = growth.get("looks", 3)
        own = Growth(**{key: value for key, value in growth.items() if key != "looks"})
        return Following(memory, seed, threads, growth=own, looks=looks)
    if name in ("boosted", "boosted-own"):
        return Boosted(memory, seed, threads, own_only=name == "boosted-own")
    if name == "velocity":
        return Velocity()
    if name == "random-encoder":
        return RandomEncoder(schema, seed)
    return Unlabelled(name, memory, seed, threads)


def _limits(clean: NDArray[Any]) -> Floats:
    return np.array([limit_of(clean, share) for share in BUDGETS], np.float32)


def keep(out: Path, told: dict[str, Floats]) -> None:
    new = out.with_suffix(".new.npz")
    np.savez(new, **{key or "all": value for key, value in told.items()})  # type: ignore[arg-type]
    new.rename(out)
