"""Wikipedia bans: the model, with its usual settings, against boosting that is tuned.

    .venv/bin/python scripts/study/wikipedia.py --train wikipedia_train_60.csv
        --test wikipedia_valid_20.csv --work data/wikipedia [--seeds 5] [--trials 20]

Edits of pages by users (u,i,ts,label); label 1 marks the edit after which a user was banned. The
test file follows the train file in time: all is chosen on the latter, and each edit of the former
is judged as of itself. What is in --work already is taken as it is, so a run that was broken off
goes on, and bundles that `shopsentry train` put there (model-0, model-1, ...) are judged.

A row has the mean over seeds, with 95 % intervals by bootstrap of users and seeds; differences are
paired, on the same resamples. "Averaged" is one detector: the mean of what all seeds say.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models import bundle as bundles
from models import schema as schemas
from models.baselines import detectors
from models.dataset import Dataset, read, split
from models.evaluate.details import Scored
from models.evaluate.judge import judge
from models.evaluate.panel import AP, AUC
from models.evaluate.reliability import reliability
from models.evaluate.report import Difference, Figure, Report
from models.evaluate.truth import Truth, truth_of
from models.thresholds import Rule, threshold
from models.training import Options, Sources, train
from models.training.parts import SHARES
from models.tune import settings
from models.tune.run import Wanted, tune
from stream_app.core.window import Ints

Scores = dict[str, NDArray[np.float64]]  # (events,) by detector

MEMBERS: Final = ("bert", "gru", "trees")
BOOSTED: Final = "boosted"
MODEL: Final = "the model"
MEASURES: Final = {AUC: "ROC-AUC", AP: "average precision", "recall@1%": "recall at 1 %"}
BUDGET: Final = 0.001


class Files(Struct, frozen=True):
    """A prepared file."""

    events: Path
    labels: Path


def prepared(csv: Path, out: Path) -> Files:
    """The whole of a raw file, cleaned: `shopsentry prepare --valid 0 --test 0 --held-out 0`."""
    if not out.exists():
        from models.prepare.config import PrepareConfig
        from models.prepare.run import prepare
        from stream_app.core.layout import Format

        prepare(
            PrepareConfig(
                data=(csv,), out=out, form=Format.WIKIPEDIA, schema="wiki",
                valid=0.0, test=0.0, held_out=0.0,
            )
        )  # fmt: skip
    return Files(out / "train.parquet", out / "train-labels.parquet")


def trained(sources: Sources, seed: int, given: argparse.Namespace) -> Path:
    """The folder of a bundle."""
    out: Path = given.work / f"model-{seed}"
    if not (out / "manifest.json").exists():
        members = tuple(given.members.split(","))
        options = Options(
            schema=given.schema,
            members=members,
            seed=seed,
            device=given.device,
            epochs=given.epochs,
        )
        train(sources, out, options, print)
    return out


def tuned(of: str, sources: Sources, given: argparse.Namespace) -> dict[str, Any]:
    """The best settings of so many trials."""
    found: Path = given.work / f"{of}.toml"
    if not found.exists():
        study = given.work / f"{of}.journal"
        wanted = Wanted(study=study, out=found, of=of, trials=given.trials)
        options = Options(schema=given.schema, device="cpu", threads=given.threads)
        tune(sources, options, wanted, print)
    return settings.table(found, of)


def said_by_model(folder: Path, data: Dataset, events: Ints, device: str) -> Scores:
    """Log-odds of all members together and of each."""
    bundle = bundles.load(folder, device)
    windows, tasks = data.windows.take(events), data.task[events]
    raw = bundles.opinions(bundle, windows, tasks).raw
    names, fusion = bundle.members.names, bundle.fusion
    odds = fusion.log_odds(raw, names, tasks)
    own = {name: odds[:, at].astype(np.float64) for at, name in enumerate(names)}
    mean = fusion.mean(raw, names, list(bundle.members.trees), tasks).astype(np.float64)
    return {MODEL: mean, **(own if len(names) > 1 else {})}


def said_by_boosting(
    seed: int, data: Dataset, events: Ints, own: Mapping[str, Any], threads: int
) -> NDArray[np.float64]:
    """Fitted to and chosen by the same users of the past as the model's trees."""
    past = np.flatnonzero(data.file == 0)
    fit_on, choose_on, _ = (np.intersect1d(part, past) for part in split(data, SHARES, seed))
    (one,) = detectors([BOOSTED], seed, threads, settings={BOOSTED: own})
    one.fit(data, fit_on, choose_on)
    return np.asarray(one.score(data, events), np.float64)


def compared(seeds: Sequence[Scores], truth: Truth, reference: str, resamples: int) -> Report:
    """All seeds of each detector, and their means; `reference` less the others."""
    named: dict[str, Scored] = {}
    for name in seeds[0]:
        scores = np.stack([one[name] for one in seeds])
        named[name] = Scored(scores=scores)
        named[_averaged(name)] = Scored(scores=scores.mean(0))
    return judge(named, truth, reference=reference, bootstrap=resamples)


def table(seeds: Sequence[Scores], truth: Truth, resamples: int) -> list[str]:
    """Markdown: seeds of the model less those of each, and averaged less averaged."""
    lines = [
        "| detector | " + " | ".join(MEASURES.values()) + " | the model's ROC-AUC less its |",
        "| --- |" + " --- |" * (len(MEASURES) + 1),
    ]
    for averaged in (False, True):
        reference = _averaged(MODEL) if averaged else MODEL
        found = compared(seeds, truth, reference, resamples)
        for name in seeds[0]:
            shown = _averaged(name) if averaged else name
            figures = found.detectors[shown].figures
            cells = [_figure(figures[key]) for key in MEASURES]
            gap = "" if shown == reference else _gap(found.differences[shown][AUC])
            lines.append(f"| {shown} | " + " | ".join(cells) + f" | {gap} |")
    return lines


def calibration(folder: Path, data: Dataset, events: Ints, device: str) -> list[str]:
    """How true probabilities are, and how a threshold of the earlier half keeps its budget."""
    bundle = bundles.load(folder, device)
    scores = bundles.score(bundle, data.windows.take(events), data.task[events])
    anomalous = data.anomalous[events]
    told = reliability(scores, anomalous)
    later = len(events) - len(events) // 2
    share, due = kept(scores, anomalous), BUDGET * later
    return [
        f"{folder.name}: expected calibration error {told['expected_calibration_error']:.4f}, mean "
        f"probability {told['mean_probability']:.3%} at {told['prevalence']:.3%} bans; a budget of "
        f"{BUDGET:.1%} set on the earlier half alarms on {share:.3%} of the later one "
        f"({share * later:.0f} edits, {due:.0f} ± {2 * due**0.5:.0f} by chance alone)",
    ]


def kept(scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> float:
    """The share of the later half that a budget alarms on which was set on the earlier half."""
    half = len(scores) // 2
    limit = threshold(Rule("budget", BUDGET), scores[:half], anomalous[:half])
    return float((scores[half:] >= limit).mean())


def _averaged(name: str) -> str:
    return f"{name}, averaged"


def _figure(one: Figure) -> str:
    return f"{one.value:.3f} [{one.low:.3f} {one.high:.3f}]"


def _gap(one: Difference) -> str:
    return f"{one.value:+.3f} [{one.low:+.3f} {one.high:+.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=20, help="to tune boosting")
    parser.add_argument("--device", default="cpu", help="to train and to score on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--members", default=",".join(MEMBERS))
    parser.add_argument("--schema", default="wiki")
    parser.add_argument("--epochs", type=int, help="at most; else as usual")
    parser.add_argument("--bootstrap", type=int, default=2000)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    past, new = (
        prepared(f, given.work / n) for f, n in ((given.train, "train"), (given.test, "test"))
    )
    sources = Sources(data=[past.events], labels=[past.labels], simulate=0)
    best = tuned(BOOSTED, sources, given)
    folders = [trained(sources, seed, given) for seed in range(given.seeds)]
    schema = schemas.load(given.schema)
    data = read([past.events, new.events], [past.labels, new.labels], schema, schema.window)
    events = np.flatnonzero(data.file == 1)
    seeds = [
        {
            **said_by_model(folder, data, events, given.device),
            "boosting, tuned": said_by_boosting(seed, data, events, best, given.threads),
            "boosting, as usual": said_by_boosting(seed, data, events, {}, given.threads),
        }
        for seed, folder in enumerate(folders)
    ]
    truth = truth_of(data, events, schema.task_names)
    lines = table(seeds, truth, given.bootstrap)
    for folder in folders:
        lines += ["", *calibration(folder, data, events, given.device)]
    print(f"{len(events):,} edits, {int(truth.anomalous.sum())} bans, {given.seeds} seeds\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
