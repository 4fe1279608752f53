"""Taobao with spliced attacks and look-alikes: recipes against baselines, on seen and new families.

    .venv/bin/python -m scripts.study.taobao --data taobao_split_a.csv --work data/taobao
        [--folds all,0,1,2,3,4] [--seeds 5] [--draws 20] [--entrants FILE] [--baselines stack,...]

`splits.py` says what a fold is: `all` has every family in training and in the test, the others each
leave two out and are judged on these alone; `independent` trains as `all` does and is judged on
attacks and look-alikes of another simulator (`independent.py`). `contest.py` fits and asks. What is
in --work already is taken as it is. Processes run side by side: --jobs are the cores there are,
--gpu-jobs of them feed --gpus.

Figures are means over draws and seeds, with 95 % intervals by bootstrap of users, campaigns and
seeds; differences are paired, on the same resamples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models import schema as schemas
from models.evaluate.details import Scored
from models.evaluate.judge import judge
from models.evaluate.panel import AP, AUC, BUDGETS, LOOK_ALIKE_AUC
from models.evaluate.report import Report
from models.evaluate.truth import Truth, joined
from models.simulate.attacks import FAMILIES
from scripts.study import independent, splits
from scripts.study.contest import BASELINES, Entrant, compete, enter
from scripts.study.crew import Crew, wait
from scripts.study.independent_shop import Shop
from scripts.study.parts import names, part, truth

KINDS: Final = ("train", "valid", "test")
INDEPENDENT: Final = "independent"
ALONE: Final = ("all", INDEPENDENT)  # folds with tests of their own kind; the others are one:
UNSEEN: Final = "unseen"
SHOWN: Final = {
    AP: "average precision", AUC: "ROC-AUC", "recall@0.1%": "recall at 0.1 %",
    "recall@1%": "recall at 1 %", "let_through@1%": "let through at 1 %",
    LOOK_ALIKE_AUC: "against look-alikes",
}  # fmt: skip


def folder_of(work: Path, fold: str) -> Path:
    return work / f"fold-{fold}"


def absent(fold: str) -> tuple[str, ...]:
    return () if fold in ALONE else splits.FOLDS[int(fold)]


def write_files(data: Path, folder: Path, fold: str, replicas: int, draws: int) -> str:
    """The files of a fold, and the truth of its draws."""
    if not (folder / "history.jsonl").exists():
        real = splits.background(splits.read(data))
        ours = 0 if fold == INDEPENDENT else draws
        for name, one in splits.files(real, replicas, 3, ours, absent(fold)):
            if name != "history":
                one.write(folder / f"{name}.jsonl")
        if fold == INDEPENDENT:
            shop = Shop(real)
            for number in range(draws):
                one = independent.test(shop, real.last, number, 1)
                one.write(folder / f"test-{number}.jsonl")
        splits.Part(real.history).write(folder / "history.jsonl")  # last: all is there
    return fold


def read_part(folder: Path, name: str, entrant: Entrant | None) -> str:
    """Cached for later jobs; with aggregates for baselines (no entrant)."""
    schema = schemas.load("shop") if entrant is None else entrant.read_as
    return str(part(folder, name, schema, aggregates=schema == schemas.load("shop")))


def told(folder: Path) -> dict[str, Scored]:
    """Of every detector that all seeds of are there."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*.npz")):
        if not path.stem.endswith(".new"):
            found.setdefault(path.stem.rpartition(".")[0], []).append(dict(np.load(path)))
    scored: dict[str, Scored] = {}
    for name, seeds in found.items():
        probable = np.stack([one["~"] for one in seeds]) if "~" in seeds[0] else None
        limits = {
            share: [float(one["limits"][at]) for one in seeds]
            for at, share in enumerate(BUDGETS)
            if "limits" in seeds[0]
        }
        scored[name] = Scored(
            scores=np.stack([one["all"] for one in seeds]), probabilities=probable, limits=limits
        )
        for member in [key for key in seeds[0] if key.startswith(": ")]:
            scored[name + member] = Scored(scores=np.stack([one[member] for one in seeds]))
    return scored


def together(folders: Sequence[Path]) -> tuple[Truth, dict[str, Scored]]:
    """Folds one after another, as draws of one study; detectors that all of them have."""
    each = [told(folder) for folder in folders]
    scored = {}
    for name in [n for n in each[0] if all(n in one for one in each)]:
        seeds = min(len(one[name].scores) for one in each)
        scored[name] = Scored(scores=np.hstack([one[name].scores[:seeds] for one in each]))
    if len(folders) == 1:
        scored = each[0]
    return joined([truth(folder) for folder in folders]), scored


def compared(
    folders: Sequence[Path], reference: str, other: str, resamples: int
) -> tuple[str, str, dict[str, Any]]:
    """`other`, its row of the table and its figures; resamples are the same for all pairs."""
    known, scored = together(folders)
    pair = {name: scored[name] for name in dict.fromkeys((reference, other))}
    report = judge(pair, known, reference=reference, bootstrap=resamples)
    return other, line(other, report, reference), _small(report, other)


def line(name: str, report: Report, reference: str) -> str:
    cells = []
    for key in SHOWN:
        one = report.detectors[name].figures.get(key)
        cells.append("" if one is None else f"{one.value:.3f} [{one.low:.3f} {one.high:.3f}]")
    if name == reference:
        return f"| {name} | " + " | ".join(cells) + " | | |"
    gap = report.differences[name][AP]
    left = gap.misses_removed
    assert left is not None
    cells += [
        f"{gap.value:+.3f} [{gap.low:+.3f} {gap.high:+.3f}]",
        f"{left.value:+.2f} [{left.low:+.2f} {left.high:+.2f}]",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def head(reference: str) -> list[str]:
    titles = [*SHOWN.values(), f"{reference}: its gain", "share of misses that it removes"]
    return ["| detector | " + " | ".join(titles) + " |", "| --- |" + " --- |" * len(titles)]


def study(given: argparse.Namespace) -> None:
    began = time.monotonic()
    until = began + given.seconds
    entrants = msgspec.json.decode(given.entrants.read_bytes(), type=list[Entrant])
    folders = {fold: folder_of(given.work, fold) for fold in given.folds.split(",")}
    crew = Crew(given.jobs, given.threads, given.gpu_jobs if given.gpus else 0, given.gpus)
    made = [
        crew.give("read", write_files, given.data, folder, fold, given.replicas, given.draws)
        for fold, folder in folders.items()
    ]
    wait("files", made, until, began)
    wait("reading", read_all(crew, folders.values(), entrants), until, began)
    wait("fits", fit_all(crew, folders.values(), entrants, given), until - given.judging, began)
    crew.leave("gpu", "cpu")
    report(given, crew, folders, until, began)
    crew.leave("read")


def read_all(crew: Crew, folders: Iterable[Path], entrants: Sequence[Entrant]) -> list[Future[Any]]:
    """Each part once under each schema that somebody reads it by."""
    ways: list[Entrant | None] = [None]
    for one in entrants:
        if all(way is None or way.read_as != one.read_as for way in ways):
            ways.append(one)
    return [
        crew.give("read", read_part, folder, name, way)
        for folder in folders
        for way in ways
        for name in ("history", *(n for kind in KINDS for n in names(folder, kind)))
    ]


def fit_all(
    crew: Crew, folders: Iterable[Path], entrants: Sequence[Entrant], given: argparse.Namespace
) -> list[Future[Any]]:
    """Entrants in their order, all seeds of one before the next."""
    every = list(folders)
    growth = json.loads(given.growth)
    jobs = [
        crew.give("cpu", compete, folder, name, seed, given.threads, growth)
        for name in filter(None, given.baselines.split(","))
        for seed in range(given.baseline_seeds if name == "stack" else 1)
        for folder in every
    ]
    jobs += [
        crew.give("gpu", enter, folder, one, seed, crew.device)
        for one in entrants
        for seed in range(min(given.seeds, one.seeds or given.seeds))
        for folder in every
    ]
    return jobs


def report(
    given: argparse.Namespace,
    crew: Crew,
    folders: Mapping[str, Path],
    until: float,
    began: float,
) -> None:
    """Of the folds that stand alone, of the others together, and of each if asked."""
    groups = {f: [folder] for f, folder in folders.items() if f in ALONE or given.each}
    if new := [folder for f, folder in folders.items() if f not in ALONE]:
        groups[UNSEEN] = new
    asked, at = [], {}
    for title, some in groups.items():
        _, scored = together(some)
        reference = given.reference
        if reference not in scored:
            print(f"{title}: nothing of {reference} is there for every fold", flush=True)
            continue
        for other in sorted(scored, key=lambda name: name != reference):
            future = crew.give("read", compared, some, reference, other, given.bootstrap)
            at[future] = title
            asked.append(future)
    wait("judging", asked, until, began)
    given.out.mkdir(parents=True, exist_ok=True)
    kept: dict[str, dict[str, Any]] = {}
    for title in groups:
        lines: list[str] = []
        for future in (f for f in asked if at[f] == title and f.done() and not f.exception()):
            other, row, figures = future.result()
            lines.append(row)
            kept.setdefault(title, {})[other] = figures
        print(f"\n## {title}\n\n" + "\n".join([*head(given.reference), *lines]), flush=True)
    (given.out / "report.json").write_text(json.dumps(kept))


def _small(report: Report, name: str) -> dict[str, Any]:
    """What a table needs: figures and groups of one, and what it is behind the reference."""
    one = report.detectors[name]
    details = {k: v for k, v in one.details.items() if k != "curves"}
    return {
        "counts": report.counts,
        "figures": msgspec.to_builtins(one.figures),
        "groups": msgspec.to_builtins(one.groups),
        "runs": one.runs,
        "details": msgspec.to_builtins(details),
        "differences": msgspec.to_builtins(report.differences.get(name, {})),
        "group_differences": msgspec.to_builtins(report.group_differences.get(name, {})),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="for report.json; else in --work")
    parser.add_argument("--entrants", type=Path, default=Path(__file__).with_name("entrants.json"))
    parser.add_argument("--reference", default="counters", help="compared with all others")
    parser.add_argument("--baselines", default=",".join(BASELINES))
    parser.add_argument("--folds", default="all,0,1,2,3,4")
    parser.add_argument("--each", action="store_true", help="tell of every fold as well")
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5, help="of recipes")
    parser.add_argument("--baseline-seeds", type=int, default=3, help="of the stack")
    parser.add_argument("--growth", default="{}", help="settings of the stack, as JSON")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1, help="of a baseline")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--gpu-jobs", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="then with what is there")
    parser.add_argument("--judging", type=float, default=0.0, help="of these, kept for the report")
    given = parser.parse_args(arguments)
    given.out = given.out or given.work
    unknown = set(given.baselines.split(",")) - {*BASELINES, ""}
    if unknown or set(given.folds.split(",")) - {*ALONE, *map(str, range(len(splits.FOLDS)))}:
        there = f"the baselines {', '.join(BASELINES)} and the folds {', '.join(ALONE)}, 0, 1, ..."
        parser.error(f"there are {there}")
    assert {family for fold in splits.FOLDS for family in fold} == set(FAMILIES)
    study(given)


if __name__ == "__main__":
    main()
