"""The files of a fold of the Taobao study -> data sets, kept in the folder beside them."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.counters.aggregates import Aggregates, Memory, aggregate
from models.dataset import Dataset, concat, lot
from models.dataset import read as read_files
from models.evaluate.truth import Truth, joined, truth_of
from models.schema import Schema
from models.training.material import Material, crowded
from models.training.parts import CALIBRATE, CHOOSE, by_lot
from stream_app.core.window import Ints

COLD: Final = 0.08  # of a replica: its windows have hardly begun
PRIOR: Final = 0.01  # share of anomalies that is expected in use

Floats = NDArray[np.float32]


class Part(Struct, frozen=True):
    """A data set, and which of its events are for what: to fit to, or to judge."""

    data: Dataset
    events: Ints


class Read(Struct, frozen=True):
    """All of a fold under one schema."""

    history: Part
    replicas: list[Part]
    valid: list[Part]
    tests: list[Part]


# -- reading ----------------------------------------------------------------------------------


def part(folder: Path, name: str, schema: Schema, aggregates: bool = False) -> Path:
    """Where a data set lies: `name` is that of its file. Read once; `aggregates` with it."""
    kept = folder / f"{schema.name}-{schema.window.span_ms}" / f"{name}.pickle"
    if not kept.exists():
        before = {"v": ["history"], "t": ["history", "between"]}.get(name[0], [])
        before = [] if name.startswith("train") else before
        files = [folder / f"{one}.jsonl" for one in (*before, name)]
        truth = folder / f"{name}.labels.jsonl"
        labels = [truth] if truth.exists() else []
        data = read_files(files, labels, schema, schema.window)
        events = np.flatnonzero(data.file == len(before))
        if name.startswith("train"):
            events = events[int(COLD * len(events)) :]
        found = (Part(data, events), aggregate(data) if aggregates else None)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("test"):
            told = truth_of(data, events, schema.task_names)
            (folder / f"{name}.truth").write_bytes(pickle.dumps(told, 5))
        kept.with_suffix(".new").write_bytes(pickle.dumps(found, 5))
        kept.with_suffix(".new").rename(kept)
    return kept


def truth(folder: Path) -> Truth:
    """Of all test draws; they have been read."""
    return joined(
        [pickle.loads((folder / f"{n}.truth").read_bytes()) for n in names(folder, "test")]
    )


def names(folder: Path, kind: str) -> list[str]:
    found = [p.stem for p in folder.glob(f"{kind}-*.jsonl") if not p.stem.endswith(".labels")]
    return sorted(found, key=lambda name: int(name.rpartition("-")[2]))


class Kept(Memory):
    """Aggregates that were made when the data was read."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Aggregates] = {}

    def of(self, data: Dataset) -> Aggregates:
        return self.known[id(data)] if id(data) in self.known else super().of(data)

    def load(self, path: Path) -> Part:
        found: tuple[Part, Aggregates | None] = pickle.loads(path.read_bytes())
        if found[1] is not None:
            self.known[id(found[0].data)] = found[1]
        return found[0]


def load(folder: Path, schema: Schema, memory: Kept) -> Read:
    one = partial(part, folder, schema=schema)

    def all_of(kind: str) -> list[Part]:
        return [memory.load(one(name=name)) for name in names(folder, kind)]

    return Read(memory.load(one(name="history")), all_of("train"), all_of("valid"), all_of("test"))


# -- recipes ----------------------------------------------------------------------------------


def material(known: Read, seed: int, crowds: float) -> Material:
    """Replicas to fit to; users and campaigns of the validation draws by halves to choose and to
    calibrate by.
    """
    parts = [known.history, *known.replicas, *known.valid]
    data = concat([p.data for p in parts])
    base = np.cumsum([0, *(len(p.data) for p in parts)]).tolist()
    fit = [p.events + at for p, at in zip(known.replicas, base[1:], strict=False)]
    judged: dict[int, list[Ints]] = {CHOOSE: [], CALIBRATE: []}
    for p, at in zip(known.valid, base[1 + len(known.replicas) :], strict=False):
        users = {user: CHOOSE if lot(user, seed) < 0.5 else CALIBRATE for user in p.data.users}
        drawn = by_lot(p.data, users, (0.0, 0.5, 0.5), seed)[p.events]
        for number, found in judged.items():
            found.append(p.events[drawn == number] + at)
    weight = np.zeros(len(data), np.float32)
    fit_on = np.concatenate(fit)
    weight[fit_on] = crowded(data, crowds)[fit_on]
    return Material(
        data=data,
        weight=weight,
        pretrain_on=np.arange(len(known.history.data)),
        fit_on=fit_on,
        choose_on=np.sort(np.concatenate(judged[CHOOSE])),
        calibrate_on=np.sort(np.concatenate(judged[CALIBRATE])),
        prior=PRIOR,
        judged_by="validation draws",
    )
