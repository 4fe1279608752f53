"""The members of a bundle, fitted one after another to the same material.

    bert gpt gru   an encoder each; the first one leads
    trees          boosted trees on facts of the newest event
    second         trees that also see what an encoder said of the earlier events

`bert-2` is another one of the kind, with other random numbers. A second look hears the encoder that
is best on the part that chooses; in its fit two of that kind judge each the other's half of the
users.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from models import calibration as calibrations
from models import trees
from models.calibration import Line
from models.committee import known_before, known_facts
from models.dataset import Dataset, lot
from models.encoders import KINDS, NetworkConfig
from models.features import fact_names
from models.inference import run
from models.measures import average_precision
from models.members import AT_MOST, Members
from models.network import Network
from models.schema import Schema
from models.second_look import SecondLook, second_names
from models.training.encoder import fit_encoder
from models.training.material import Material
from models.training.processes import Processes
from models.training.recipe import Recipe
from models.training.warm_start import Start
from models.training.watch import Watch
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

_NAME: Final = re.compile(r"([a-z]+)(?:-([1-9]\d*))?")
_TREES: Final = ("trees", "second")
_NORMAL_AT_MOST: Final = 300_000  # normal events that trees are fitted to

Table = NDArray[np.float32]


class Plan(Struct, frozen=True, kw_only=True):
    """What `fit_members` does, and with what."""

    names: Sequence[str]
    schema: Schema
    config: NetworkConfig  # of the leading encoder
    recipe: Recipe
    start: Start | None = None  # of the leading encoder
    work: Path | None = None  # for checkpoints
    threads: int = 1

    def check(self) -> None:
        """Raises Misconfigured."""
        known = (*KINDS, *_TREES)
        for name in self.names:
            if kind(name) not in known:
                raise Misconfigured(
                    f"there is no member {name!r}: choose {', '.join(known)}, or bert-2 for "
                    "another one of a kind"
                )
        if len(set(self.names)) < len(self.names) or len(self.names) > AT_MOST:
            raise Misconfigured(f"name each member once, and {AT_MOST} at most")
        if kind(self.names[0]) != self.config.encoder:
            raise Misconfigured(
                f"the first member must be an encoder ({self.config.encoder}), not {self.names[0]}"
            )
        for name in self.names:
            if kind(name) == "second" and self.config.attention != "causal":
                raise Misconfigured("a second look needs causal attention")
            if kind(name) in KINDS:
                self.config_of(name).check()

    def config_of(self, name: str) -> NetworkConfig:
        own = kind(name)
        if own == self.config.encoder or own not in KINDS:
            return self.config
        return structs.replace(self.config, encoder=own, activation="gelu")


def kind(name: str) -> str:
    """bert of bert-2; the name itself if it is none of ours."""
    found = _NAME.fullmatch(name)
    return found[1] if found else name


def fit_members(
    plan: Plan, material: Material, processes: Processes, watch: Watch
) -> tuple[Members, int]:
    """All of them on the CPU or the device they were fitted on, and the leading one's epochs."""
    data, fit_on = material.data, material.fit_on
    fitted = _Encoders(plan, material, processes, watch)
    encoders: dict[str, Network] = {}
    epochs = 0
    for name in plan.names:
        if kind(name) in KINDS:
            encoders[name], done = fitted.fit(name, fit_on, material.pretrain_on)
            epochs = epochs or done
    boosted: dict[str, trees.Trees | SecondLook] = {}
    asked = [name for name in plan.names if kind(name) in _TREES]
    if asked and not 0 < int(data.anomalous[fit_on].sum()) < len(fit_on):
        raise Misconfigured("trees need anomalies to learn from: give labels, or leave them out")
    for name in asked:
        watch.say(f"{name}: growing")
        if kind(name) == "trees":
            boosted[name] = _trees(plan, material, processes, len(boosted))
        else:
            boosted[name] = _second(plan, material, processes, fitted, encoders, len(boosted))
    return Members(encoders, boosted), epochs


class _Encoders:
    """Fits encoders, each with a fair part of the time that is left."""

    def __init__(self, plan: Plan, material: Material, processes: Processes, watch: Watch) -> None:
        self._plan, self._material = plan, material
        self._processes, self._watch = processes, watch
        self._until = time.monotonic() + plan.recipe.time_limit_s
        halves = 2 * any(kind(name) == "second" for name in plan.names)
        self._left = sum(kind(name) in KINDS for name in plan.names) + halves
        self._number = 0

    def fit(
        self, name: str, fit_on: Ints, pretrain_on: Ints, like: str | None = None
    ) -> tuple[Network, int]:
        """`like`: the member whose shape and beginning it has, if not its own."""
        plan, like = self._plan, like or name
        limit = (self._until - time.monotonic()) / max(self._left, 1)
        recipe = structs.replace(
            plan.recipe,
            seed=plan.recipe.seed + 1000 * self._number,
            time_limit_s=limit if limit == math.inf else max(limit, 1.0),
        )
        if len(plan.names) > 1:
            self._watch.say(f"{name}:")
        self._watch.follow(name)
        self._left, self._number = self._left - 1, self._number + 1
        encoder = fit_encoder(
            plan.schema,
            self._material.data,
            fit_on,
            self._material.choose_on,
            plan.config_of(like),
            recipe,
            weight=self._material.weight,
            pretrain_on=pretrain_on,
            start=plan.start if like == plan.names[0] else None,
            processes=self._processes,
            progress=self._watch,
            work=plan.work / name if plan.work is not None else None,
        )
        return encoder.network, encoder.epochs


def _trees(plan: Plan, material: Material, processes: Processes, number: int) -> trees.Trees:
    schema, data, chosen = plan.schema, material.data, material.choose_on
    events = _some(data, material.fit_on, plan.recipe.seed)
    tables = [
        known_facts(schema, data.windows.take(some), processes.device) for some in (events, chosen)
    ]
    names = fact_names(schema)
    return _grown(plan, tables, material, events, names, plan.recipe.seed + number)


def _second(
    plan: Plan,
    material: Material,
    processes: Processes,
    fitted: _Encoders,
    encoders: dict[str, Network],
    number: int,
) -> SecondLook:
    data, chosen, device = material.data, material.choose_on, processes.device
    anomalous = data.anomalous[chosen]
    half = halves(data, plan.recipe.seed)

    def scores_of(network: Network) -> Table:
        raw = run(network, data.windows.take(chosen), device).logits
        return raw[np.arange(len(chosen)), data.task[chosen]]

    def lines_of(scores: Table) -> tuple[Line, ...]:
        tasks = len(plan.schema.task_names)
        return calibrations.fit(scores, anomalous, data.task[chosen], tasks).lines

    def table(network: Network, lines: tuple[Line, ...], some: Ints) -> Table:
        windows = data.windows.take(some)
        facts = known_facts(plan.schema, windows, device)
        return np.hstack([facts, known_before(network, lines, windows, device)])

    scores = {name: scores_of(network) for name, network in encoders.items()}
    source = max(scores, key=lambda name: np.nan_to_num(average_precision(scores[name], anomalous)))
    events, tables = [], []
    sampled = _some(data, material.fit_on, plan.recipe.seed)
    for own in (0, 1):
        learnt = material.fit_on[half[material.fit_on] == own]
        before = material.pretrain_on[half[material.pretrain_on] == own]
        network, _ = fitted.fit(f"{source}-half-{own + 1}", learnt, before, source)
        events.append(sampled[half[sampled] != own])
        tables.append(table(network, lines_of(scores_of(network)), events[-1]))
    lines = lines_of(scores[source])
    held = [np.concatenate(tables), table(encoders[source], lines, chosen)]
    together, names = np.concatenate(events), second_names(plan.schema)
    seed = plan.recipe.seed + number
    return SecondLook(_grown(plan, held, material, together, names, seed), lines, source)


def _grown(
    plan: Plan,
    tables: list[Table],
    material: Material,
    events: Ints,
    names: Sequence[str],
    seed: int,
) -> trees.Trees:
    own, held = tables
    truth = material.data.anomalous
    return trees.fit(
        own,
        truth[events],
        held,
        truth[material.choose_on],
        names,
        seed,
        plan.threads,
        weight=material.weight[events],
    )


def _some(data: Dataset, events: Ints, seed: int) -> Ints:
    """All anomalies, and as many normal events as trees can do with."""
    normal = events[~data.anomalous[events]]
    if len(normal) > _NORMAL_AT_MOST:
        normal = np.random.default_rng(seed).choice(normal, _NORMAL_AT_MOST, replace=False)
    return np.sort(np.concatenate([events[data.anomalous[events]], normal]))


def halves(data: Dataset, seed: int) -> Ints:
    """(events,) 0 or 1: by user, but a campaign stays whole."""
    campaigns = data.of("campaign")
    side: Callable[[str], int] = lambda name: int(lot(name, seed + 1) < 0.5)  # noqa: E731 read as one
    of_user = np.array([side(user) for user in data.users])
    found: Ints = of_user[data.user]
    for at, campaign in enumerate(campaigns):
        if campaign:
            found[at] = side(campaign)
    return found
