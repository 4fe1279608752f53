"""Which fields of what the site saw earn their cost: boosted trees with and without each group.

    .venv/bin/python scripts/study/splits.py --data taobao_split_a.csv --out data/study --draws 20
    .venv/bin/python scripts/study/context_fields.py --split data/study --draws 20

Trees on the facts of the newest event, of the schema `shop-context`, fitted to the replicas, chosen
on two validation draws, judged on test draws. A group that is left out is missing in all three.
Trees are not the model, but they show what a field tells beside all others, in minutes on a CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from models import schema as schemas
from models.committee import known_facts
from models.dataset import read
from models.features import fact_names
from models.schema import Schema
from models.trees import Table, fit

MANY: Final = ("brushing", "ride_along", "credential_stuffing", "cart_hoarding")
VALID: Final = (0, 1)
BATCH: Final = 4096
SEEDS: Final = 3
GROUPS: Final = {
    "time since the newest, the fourth": ("item_latest", "item_fourth"),
    "how many users": ("item_users",),
    "new accounts": ("item_new",),
    "who put it into the cart, bought it": ("item_wanted", "item_bought"),
    "company of its users": ("item company", "item company most"),
}

Flags = NDArray[np.bool_]


class Part(NamedTuple):
    """Events to fit to, choose by, or judge."""

    facts: Table
    anomalous: Flags
    many: Flags  # of a family that needs many accounts
    kind: NDArray[np.str_]  # of look-alike


def part(schema: Schema, before: Sequence[Path], name: Path) -> Part:
    """The events of `name`, read after `before`."""
    labels = name.with_suffix(".labels.jsonl")
    data = read([*before, name], [labels], schema, schema.window)
    events = np.flatnonzero(data.file == len(before))
    facts = [
        known_facts(schema, data.windows.take(events[at : at + BATCH]), torch.device("cpu"))
        for at in range(0, len(events), BATCH)
    ]
    family = np.array(data.of("family"))[events]
    alike = np.array(data.of("look_alike"))[events]
    return Part(np.concatenate(facts), data.anomalous[events], np.isin(family, MANY), alike)


def joined(parts: Sequence[Part]) -> Part:
    return Part(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def variants(names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Name, and the facts that it has."""
    every = {field for group in GROUPS.values() for field in group}
    missing = every - set(names)
    assert not missing, f"no facts: {missing}"

    def without(fields: Sequence[str] | set[str]) -> list[int]:
        return [at for at, name in enumerate(names) if name not in fields]

    yield "all", without(())
    for group, fields in GROUPS.items():
        yield f"without {group}", without(fields)
    for group, fields in GROUPS.items():
        yield f"only {group}", without(every - set(fields))
    yield "none", without(every)


def judged(
    chosen: list[int], names: Sequence[str], to_fit: Part, to_choose: Part, to_judge: Part
) -> tuple[float, float]:
    """Average precision of all, and of families with many accounts; means over seeds."""
    own = [names[at] for at in chosen]
    found: list[tuple[float, float]] = []
    for seed in range(SEEDS):
        trees = fit(
            to_fit.facts[:, chosen],
            to_fit.anomalous,
            to_choose.facts[:, chosen],
            to_choose.anomalous,
            own,
            seed,
        )
        raw = trees.raw(to_judge.facts[:, chosen])
        some = to_judge.many | ~to_judge.anomalous
        found.append(
            (
                float(average_precision_score(to_judge.anomalous, raw)),
                float(average_precision_score(to_judge.anomalous[some], raw[some])),
            )
        )
    every, many = np.mean(found, 0)
    return float(every), float(many)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fields of what the site saw, with and without.")
    parser.add_argument("--split", type=Path, required=True, help="folder that splits.py wrote")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    schema, folder = schemas.load("shop-context"), given.split
    history, between = folder / "history.jsonl", folder / "between.jsonl"
    to_fit = joined([part(schema, [], folder / f"train-{n}.jsonl") for n in range(given.replicas)])
    to_choose = joined([part(schema, [history], folder / f"valid-{n}.jsonl") for n in VALID])
    before = [history, between]
    to_judge = joined(
        [part(schema, before, folder / f"test-{n}.jsonl") for n in range(given.draws)]
    )
    names = fact_names(schema)
    print(f"{len(to_fit.facts):,} events to fit to, {len(to_judge.facts):,} judged")
    print("| context fields | average precision | … of families with many accounts | misses |")
    print("| --- | --- | --- | --- |", flush=True)
    first: float | None = None
    for name, chosen in variants(names):
        every, many = judged(chosen, names, to_fit, to_choose, to_judge)
        first = many if first is None else first
        share = (1 - many) / (1 - first)
        print(f"| {name} | {every:.3f} | {many:.3f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
