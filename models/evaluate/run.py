"""An evaluation from files: read, fit, score, judge. What it found goes to `folder.write`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import Struct

from models import schema as schemas
from models.baselines import NAMES, detectors
from models.dataset import Dataset
from models.evaluate.contestants import Baseline, Contestant, Outcome, Shipped, scored
from models.evaluate.drift import drift_of
from models.evaluate.inputs import History, Inputs, hashed, read_draw, read_history
from models.evaluate.judge import judge
from models.evaluate.leak import leaking_fields
from models.evaluate.report import Report
from models.evaluate.truth import Truth, joined, truth_of
from models.schema import Schema
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

Progress = Callable[[str, int, int], None]  # what is done, steps done, steps in all

_PACKAGES: Final = ("shopsentry", "numpy", "torch", "transformers", "lightgbm", "scikit-learn")


class Model(Struct, frozen=True, kw_only=True):
    """A bundle to judge; several of one name are seeds of one model."""

    name: str
    folder: Path
    members: tuple[str, ...] = ()  # the mean of these alone; none: of all


class Request(Struct, frozen=True, kw_only=True):
    inputs: Inputs
    models: tuple[Model, ...] = ()
    baselines: tuple[str, ...] | None = None  # by name; None: all that the history allows
    schema: str = "shop"  # where there is no model
    unseen: tuple[str, ...] = ()  # families that training did not have; else found by the labels
    seed: int = 0
    seeds: int = 1  # of each baseline
    bootstrap: int = 1000
    device: str = "auto"
    threads: int = 1
    command: str = ""  # that makes this report again

    def check(self) -> None:
        """Raises Misconfigured."""
        self.inputs.check()
        if not self.models and self.baselines == ():
            raise Misconfigured("there is nothing to judge: give --model, or --baselines")
        if self.baselines and not self.inputs.data:
            raise Misconfigured(
                "baselines are fitted on a history: give --data, or --baselines none"
            )
        if self.baselines is None and not self.models and not self.inputs.data:
            raise Misconfigured("there is nothing to judge: give --model, or --data for baselines")


class Evaluation(Struct, frozen=True, kw_only=True):
    """All that a report folder tells."""

    command: str
    versions: dict[str, str]
    models: dict[str, list[str]]  # name -> versions of its bundles
    baselines: list[str]
    files: dict[str, str]  # SHA-256
    notes: list[str]
    leaks: list[dict[str, Any]]  # by draw
    drift: dict[str, float]  # by field: the first draw against the history
    report: Report


class _Known(Struct):
    """What reading the draws told, beside scores."""

    truths: list[Truth]
    leaks: list[dict[str, Any]]
    drift: dict[str, float]
    notes: list[str]


def evaluate(request: Request, progress: Progress = lambda what, done, of: None) -> Evaluation:
    """Raises Misconfigured, BadBundle."""
    request.check()
    progress("loading", 0, 1)
    shipped = [Shipped(m.name, m.folder, request.device, m.members) for m in request.models]
    main = shipped[0].bundle.schema if shipped else schemas.load(request.schema)
    known = _Known([], [], {}, [])
    baselines = _baselines(request, main, known.notes)
    outcomes: dict[int, list[Outcome]] = {}
    everybody: list[Contestant] = [*shipped, *baselines]
    for schema in _different([main, *(one.bundle.schema for one in shipped)]):
        own = [
            one
            for one in everybody
            if (one.bundle.schema if isinstance(one, Shipped) else main) == schema
        ]
        for one, judged in zip(own, _judged(request, schema, own, known, progress), strict=True):
            outcomes[id(one)] = judged
    truth = joined(known.truths)
    _check_unseen(request, truth)
    by_name: dict[str, list[Contestant]] = {}
    for one in everybody:
        by_name.setdefault(one.name, []).append(one)
    report = judge(
        {
            name: scored([outcomes[id(one)] for one in seeds], [one.limits for one in seeds])
            for name, seeds in by_name.items()
        },
        truth,
        bootstrap=request.bootstrap,
        seed=request.seed,
        progress=lambda done, of: progress("resampling users and campaigns", done, of),
    )
    versions: dict[str, list[str]] = {}
    for one in shipped:
        versions.setdefault(one.name, []).append(one.bundle.version)
    return Evaluation(
        command=request.command,
        versions={"python": platform.python_version()} | _installed(),
        models=versions,
        baselines=list(dict.fromkeys(one.name for one in baselines)),
        files=hashed(request.inputs.files()),
        notes=known.notes,
        leaks=known.leaks,
        drift=known.drift,
        report=report,
    )


def _judged(
    request: Request,
    schema: Schema,
    contestants: Sequence[Contestant],
    known: _Known,
    progress: Progress,
) -> list[list[Outcome]]:
    """(contestants, draws), all of one schema. What the first schema tells is kept in `known`."""
    inputs, policy = request.inputs, WindowPolicy()
    first = not known.truths
    history: History | None = None
    if inputs.data:
        progress("reading the history", 0, 1)
        history = read_history(inputs, schema, policy, request.seed)
        for at, one in enumerate(contestants):
            progress(f"fitting {one.name}", at, len(contestants))
            one.prepare(history.data, history.fit_on, history.choose_on)
    found: list[list[Outcome]] = [[] for _ in contestants]
    for draw in range(len(inputs.tests)):
        progress(f"reading draw {draw + 1}", draw, len(inputs.tests))
        data, events = read_draw(inputs, draw, schema, policy)
        truth = truth_of(
            data, events, schema.task_names, seen=_seen(history), unseen=request.unseen
        )
        if first:
            known.truths.append(truth)
            known.leaks.append(leaking_fields([inputs.tests[draw]], data))
            known.notes += _notes(data, events, draw)
            if draw == 0 and history is not None:
                known.drift |= drift_of(data, np.arange(int(events[0])), events, schema)
        elif not np.array_equal(known.truths[draw].at_ms, truth.at_ms):
            raise Misconfigured(
                "the models read different events of the same files, because the types of their "
                "schemas differ: judge them apart"
            )
        for at, one in enumerate(contestants):
            progress(f"{one.name} scores draw {draw + 1}", at, len(contestants))
            found[at].append(one.judge(data, events))
    return found


def _baselines(request: Request, schema: Schema, notes: list[str]) -> list[Baseline]:
    inputs = request.inputs
    wanted = NAMES if request.baselines is None else request.baselines
    if not wanted:
        return []
    if not inputs.data:
        notes.append("No baselines: there is no history (--data) to fit them on.")
        return []
    labelled = bool(inputs.labels or inputs.valid_labels)
    made: list[Baseline] = []
    left_out: list[str] = []
    for seed in range(request.seed, request.seed + request.seeds):
        for one in detectors(wanted, seed, request.threads):
            if not one.labels or labelled:
                made.append(Baseline(one, len(schema.task_names)))
            elif request.baselines is None:
                left_out.append(one.name)
            else:
                raise Misconfigured(f"{one.name} learns from labels: give --labels for --data")
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        notes.append(f"Left out, because the history has no labels to learn from: {names}.")
    if not inputs.valid:
        notes.append(
            "Limits for budgets, and the calibration of baselines, come from 30 % of the history's "
            "users. A model that was trained on these users knows them, so its limits may be too "
            "low; --valid takes events that no training saw."
        )
    if not labelled:
        notes.append(
            "The history has no labels: baselines have no calibration and decide by the limit of "
            "the 1 % budget."
        )
    return made


def _notes(data: Dataset, events: Ints, draw: int) -> list[str]:
    notes = []
    without = sum(data.labels[at] is None for at in events.tolist())
    if without:
        notes.append(
            f"Draw {draw + 1}: {without:,} of {len(events):,} events have no label and count as "
            "normal."
        )
    if data.put_aside:
        notes.append(
            f"Draw {draw + 1}: {data.put_aside:,} lines, of the history too, were put aside as the "
            "stream would: malformed, late or repeated."
        )
    return notes


def _seen(history: History | None) -> set[str] | None:
    """Families that the history has labels of, as the only thing known of training."""
    if history is None or not history.labelled:
        return None
    return set(history.data.of("family")) - {""}


def _check_unseen(request: Request, truth: Truth) -> None:
    there = set(truth.group("family").tolist()) - {""}
    for family in request.unseen:
        if family not in there:
            raise Misconfigured(
                f"no labelled event is of the family {family!r}; there are "
                f"{', '.join(sorted(there)) or 'no families'}"
            )


def _different(all_: Sequence[Schema]) -> list[Schema]:
    found: list[Schema] = []
    for schema in all_:
        if schema not in found:
            found.append(schema)
    return found


def _installed() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
