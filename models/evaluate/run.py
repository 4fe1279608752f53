"""An evaluation from files: read, fit, score, judge. What it found goes to `folder.write`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models import schema as schemas
from models.baselines import NAMES, OF_BUNDLE, OF_SCHEMA, detectors
from models.dataset import Dataset
from models.evaluate import notes as notes_on
from models.evaluate.campaign_alerts import alerted
from models.evaluate.contestants import Baseline, Contestant, Outcome, Shipped, scored
from models.evaluate.drift import drift_of
from models.evaluate.inputs import History, Inputs, hashed, read_history
from models.evaluate.judge import judge
from models.evaluate.leak import leaking_fields
from models.evaluate.report import Report
from models.evaluate.simulated import posed, taught
from models.evaluate.truth import Truth, joined, truth_of
from models.schema import Schema
from models.tune import settings as tuned
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

if TYPE_CHECKING:
    from models.bundle import Bundle

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
    settings: tuple[Path, ...] = ()  # files of baselines' settings, as `tune` writes them
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
    simulated: str = ""  # what to know of a truth that is simulated


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
    baselines = _baselines(request, main, shipped[0].bundle if shipped else None, known.notes)
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
        files=hashed((*request.inputs.files(), *request.settings)),
        notes=known.notes,
        simulated=notes_on.simulation(request.inputs) if request.inputs.truth_simulated else "",
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
    """(contestants, draws), all of one schema. What the first schema tells is kept in `known`.

    All is read before anything is fitted, so that files that do not fit are told at once.
    """
    inputs, policy = request.inputs, schema.window
    history: History | None = None
    if inputs.data:
        progress("reading the history", 0, 1)
        history = read_history(inputs, schema, policy, request.seed)
        if _teach(inputs, contestants):
            progress("simulating attacks in the history", 0, 1)
            history = taught(inputs, history, schema, policy, request.seed)
    draws = []
    for draw in range(inputs.draws):
        progress(f"reading draw {draw + 1}", draw, inputs.draws)
        data, events, lines = posed(inputs, draw, schema, policy, request.seed)
        draws.append((data, events))
        if not known.truths:
            known.leaks.append(leaking_fields(lines, data))
    truths = [
        truth_of(
            data, events, schema.task_names, seen=_seen(inputs, history), unseen=request.unseen
        )
        for data, events in draws
    ]
    if not known.truths:
        _check_unseen(request, truths)
        known.truths = truths
        for draw, (data, events) in enumerate(draws):
            known.notes += notes_on.draw(data, events, draw)
        if history is not None:
            data, events = draws[0]
            known.drift |= drift_of(data, np.arange(int(events[0])), events, schema)
    elif any(
        not np.array_equal(one.at_ms, other.at_ms)
        for one, other in zip(known.truths, truths, strict=True)
    ):
        raise Misconfigured(
            "the models read different events of the same files, because the types of their "
            "schemas differ: judge them apart"
        )
    found = []
    for at, one in enumerate(contestants):
        if history is not None:
            progress(f"fitting {one.name}", at, len(contestants))
            one.prepare(history)
        progress(f"{one.name} scores", at, len(contestants))
        found.append([_with_campaigns(one.judge(*draw), *draw, schema) for draw in draws])
    return found


def _teach(inputs: Inputs, contestants: Sequence[Contestant]) -> bool:
    """Whether attacks are needed in the history: to learn from, or to set limits beside."""
    if inputs.labelled or not inputs.simulate:
        return False
    return inputs.truth_simulated or any(
        isinstance(one, Baseline) and one.labels for one in contestants
    )


def _with_campaigns(outcome: Outcome, data: Dataset, events: Ints, schema: Schema) -> Outcome:
    """What the stream would join of its decisions, where it has probabilities to do so."""
    if outcome.decided is None or outcome.probabilities is None:
        return outcome
    told = alerted(data, events, outcome.probabilities, outcome.decided, schema, CampaignPolicy())
    return replace(outcome, alerted=told)


def _baselines(
    request: Request, schema: Schema, bundle: Bundle | None, notes: list[str]
) -> list[Baseline]:
    inputs = request.inputs
    wanted = request.baselines
    if wanted is None:
        wanted = (*NAMES, *OF_SCHEMA, *(OF_BUNDLE if bundle is not None else ()))
    settings = tuned.together(request.settings)
    for name in settings:
        if name not in wanted or not inputs.data:
            raise Misconfigured(
                f"there are settings of [{name}], which is none of the baselines to be judged"
            )
    if not wanted:
        return []
    if not inputs.data:
        notes.append("No baselines: there is no history (--data) to fit them on.")
        return []
    made: list[Baseline] = []
    left_out: list[str] = []
    for seed in range(request.seed, request.seed + request.seeds):
        for one in detectors(
            wanted, seed, request.threads, settings=settings, schema=schema, bundle=bundle
        ):
            if not one.labels or inputs.teaches:
                made.append(Baseline(one, len(schema.task_names)))
            elif request.baselines is None:
                left_out.append(one.name)
            else:
                raise Misconfigured(
                    f"{one.name} learns from labels: give --labels for --data, or --simulate 2"
                )
    notes += notes_on.baselines(inputs, settings, left_out)
    return made


def _seen(inputs: Inputs, history: History | None) -> frozenset[str] | None:
    """Families that the history has labels of: all that is known of training."""
    return history.families if history is not None and inputs.labelled else None


def _check_unseen(request: Request, truths: Sequence[Truth]) -> None:
    there = {family for truth in truths for family in truth.group("family").tolist()} - {""}
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
