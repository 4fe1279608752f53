"""What each schema tells of the attacks: boosted trees alone on its facts, Taobao, half A.

    .venv/bin/python -m scripts.study.told --data taobao_split_a.csv --work data/told
        [--ways shop,shop-context] [--folds all] [--replicas 4] [--draws 16] [--seeds 3]

A way is a schema, `shop:14` one with windows of 14 days; `shop-counters` takes a fifth of a
millisecond an event. `--groups`: of `shop-counters`, each group of counters left out, and each
added to what `shop-context` tells. Parts and folds are those of the study (splits.py, taobao.py),
and what is said is kept for its table; what is in --work is taken as it is. Rounds are chosen on
the validation draws. The first way is compared with the others: 95 % intervals by bootstrap of
users, campaigns and seeds, differences paired.

Families that need many accounts (brushing, riding along, stuffing, hoarding) are a group of their
own.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from msgspec import Struct, structs

from models import schema as schemas
from models import trees
from models.committee import known_facts
from models.counters import company, habits, rhythm, site, things
from models.evaluate.details import Scored
from models.evaluate.judge import judge
from models.evaluate.panel import AP, AUC, LOOK_ALIKE_AUC
from models.evaluate.report import Difference, Figure, Report
from models.evaluate.truth import Truth, joined
from models.features import fact_names
from models.schema import Schema
from models.trees import Table
from scripts.study.parts import Kept, names, part, truth
from scripts.study.taobao import folder_of, write_files

MANY: Final = ("brushing", "ride_along", "credential_stuffing", "cart_hoarding")
DIFFICULTIES: Final = ("easy", "medium", "hard")
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "rhythm": rhythm.NAMES, "habits": habits.NAMES, "item": things.names("item"),
    "group": things.names("group"), "visitors": company.VISITOR_NAMES,
    "steps": company.STEP_NAMES, "site": site.SITE_NAMES,
}  # fmt: skip


class Way(Struct, frozen=True):
    """A schema and which of its facts are told: all but those of some groups of counters."""

    name: str
    schema: str
    days: int = 0  # of a window; 0: the schema's
    without: tuple[str, ...] = ()

    @property
    def read_as(self) -> Schema:
        schema = schemas.load(self.schema)
        return structs.replace(schema, span_s=86_400 * self.days) if self.days else schema

    def columns(self) -> list[int]:
        dropped = {f"counter: {name}" for group in self.without for name in GROUPS[group]}
        return [at for at, name in enumerate(fact_names(self.read_as)) if name not in dropped]


def ways(asked: str, groups: bool) -> list[Way]:
    found = []
    for name in asked.split(","):
        schema, _, days = name.partition(":")
        found.append(Way(name, schema, int(days or 0)))
    if groups:
        for group in GROUPS:
            others = tuple(other for other in GROUPS if other != group)
            found.append(Way(f"counters without {group}", "shop-counters", without=(group,)))
            found.append(Way(f"context and {group}", "shop-counters", without=others))
    return found


def facts(folder: Path, name: str, schema: Schema) -> str:
    """Read a part and keep the facts of its events, with what is known of them."""
    torch.set_num_threads(1)
    kept = folder / f"{schema.name}-{schema.window.span_ms}" / f"{name}.facts.npz"
    if not kept.exists():
        one = Kept().load(part(folder, name, schema))
        table = known_facts(schema, one.data.windows.take(one.events), torch.device("cpu"))
        np.savez(kept, facts=table, anomalous=one.data.anomalous[one.events])
        part(folder, name, schema).unlink()  # facts are all that is needed
    return str(kept)


def told(folder: Path, way: Way, kind: str) -> tuple[list[Table], list[np.ndarray]]:
    schema, columns = way.read_as, way.columns()
    found = [np.load(facts(folder, name, schema)) for name in names(folder, kind)]
    return [one["facts"][:, columns] for one in found], [one["anomalous"] for one in found]


def scored(folder: Path, way: Way, seed: int) -> np.ndarray:
    """(events of the test draws,), kept beside what the study's detectors say."""
    out = folder / f"trees on {way.name}.{seed}.npz"
    if out.exists():
        return np.asarray(np.load(out)["all"])
    learn, known = told(folder, way, "train")
    choose, chosen = told(folder, way, "valid")
    columns = [str(at) for at in range(learn[0].shape[1])]
    grown = trees.fit(
        np.concatenate(learn), np.concatenate(known), np.concatenate(choose),
        np.concatenate(chosen), columns, seed,
    )  # fmt: skip
    said = np.concatenate([grown.raw(table) for table in told(folder, way, "test")[0]])
    np.savez(out, all=said)
    return said


def grouped(known: Truth) -> Truth:
    """With the families that need many accounts as a group."""
    many = np.isin(known.group("family"), MANY)
    return structs.replace(known, groups={**known.groups, "accounts": np.where(many, "many", "")})


def table(report: Report, found: Sequence[str]) -> list[str]:
    first = found[0]
    lines = [
        "| told | average precision | ROC-AUC | of many accounts | against look-alikes, medium "
        f"| hard | of what {first} misses, it finds | of many accounts |",
        "| --- |" + " --- |" * 7,
    ]
    for name in found:
        own = report.detectors[name]
        cells = [_figure(own.figures[key]) for key in (AP, AUC)]
        cells.append(_group(own.groups, "accounts", "many", AP))
        cells += [_group(own.groups, "difficulty", d, LOOK_ALIKE_AUC) for d in DIFFICULTIES[1:]]
        if name != first:
            cells.append(_found(report.differences[name][AP], own.figures[AP]))
            groups = report.group_differences[name]
            cells.append(
                _found(groups["accounts"]["many"][AP], own.groups["accounts"]["many"][AP])
                if "accounts" in groups
                else ""
            )
        else:
            cells += ["", ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _figure(one: Figure) -> str:
    return f"{one.value:.3f} [{one.low:.3f} {one.high:.3f}]"


def _group(groups: Mapping[str, Mapping[str, Mapping[str, Figure]]], *keys: str) -> str:
    group, value, measure = keys
    one = groups.get(group, {}).get(value, {}).get(measure)
    return "" if one is None else _figure(one)


def _found(gap: Difference, other: Figure) -> str:
    """Of the misses of the reference; `gap` is the reference less the other."""
    assert gap.low is not None
    assert gap.high is not None
    missed = 1 - (other.value + gap.value)
    return f"{-gap.value / missed:+.2f} [{-gap.high / missed:+.2f} {-gap.low / missed:+.2f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ways", default="shop,shop-context")
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--folds", default="all")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(arguments)
    asked = ways(given.ways, given.groups)
    schemes = list({(w.schema, w.days): w.read_as for w in asked}.values())
    folders = {fold: folder_of(given.work, fold) for fold in given.folds.split(",")}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, spawn) as crew:
        for fold, folder in folders.items():
            write_files(given.data, folder, fold, given.replicas, given.draws)
        every = [
            (folder, name, schema)
            for folder in folders.values()
            for schema in schemes
            for name in _all(folder)
        ]
        list(crew.map(facts, *zip(*every, strict=True)))
        jobs = {
            (fold, way.name): [crew.submit(scored, folder, way, s) for s in range(given.seeds)]
            for fold, folder in folders.items()
            for way in asked
        }
        done = {key: np.stack([one.result() for one in seeds]) for key, seeds in jobs.items()}
    seen = [fold for fold in folders if fold == "all"]
    for title, some in (("seen", seen), ("unseen", [f for f in folders if f != "all"])):
        if some:
            known = grouped(joined([truth(folders[fold]) for fold in some]))
            named = {
                way.name: Scored(scores=np.hstack([done[fold, way.name] for fold in some]))
                for way in asked
            }
            report = judge(named, known, bootstrap=given.bootstrap)
            counts = report.counts
            print(
                f"\n## families {title}: {counts['draws']} draws, {counts['campaigns']} campaigns, "
                f"{counts['prevalence']:.2%} anomalous\n"
            )
            print("\n".join(table(report, [way.name for way in asked])), flush=True)


def _all(folder: Path) -> list[str]:
    return [name for kind in ("train", "valid", "test") for name in names(folder, kind)]


if __name__ == "__main__":
    main()
