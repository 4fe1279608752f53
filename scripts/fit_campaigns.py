"""Fits the weights of `core.coordination`: what tells campaigns from crowds that are honest.

    .venv/bin/python scripts/fit_campaigns.py                           # fits, on seeds 301 to 324
    .venv/bin/python scripts/fit_campaigns.py --judge --seeds 501-524   # what is in use, on others

Simulated shops of 30,000 events, 4 % of them attacks, scored by the shipped model. Every run of
anomalous events of three users and more at one thing counts once, whatever its evidence, at the
threshold in use and at 0.2, where more honest crowds are among them. A run is of a campaign, or of
nothing, by what most of its users are part of.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models import bundle as bundles
from models.dataset import read
from models.evaluate.campaign_alerts import ALIKE, NORMAL, about, follow
from models.simulate.shop import SimulationConfig, write
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.coordination import WEIGHTS, Evidence
from stream_app.core.window import WindowPolicy
from stream_app.settings import ScorerSettings

THRESHOLDS = (0.5, 0.2)
NAMES = ("same_paths", "certainty", "same_rhythm", "new_accounts")
USUAL = {"same_rhythm": 0.15, "new_accounts": 0.3}  # where it is not known
RIDGE = 0.005
LIMITS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9)  # of the strength
REAL = (True, False)

Floats = NDArray[np.float64]


class Case(NamedTuple):
    run: str
    threshold: float
    is_campaign: bool
    evidence: Evidence


def cases(seed: int, bundle: bundles.Bundle) -> list[Case]:
    with tempfile.TemporaryDirectory() as folder:
        events, labels = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        write(SimulationConfig(seed=seed, events=30_000, attack_share=0.04), events, labels)
        data = read([events], [labels], bundle.schema, WindowPolicy())
    scores = bundles.score(bundle, data.windows, data.task).astype(np.float64)
    every, found = CampaignPolicy(strength=0.0), list[Case]()
    for threshold in THRESHOLDS:
        which = np.flatnonzero(scores >= threshold)
        told = [news for _, news in follow(data, which, scores[which], bundle.schema, every)]
        for news, name in zip(told, about(data, told), strict=True):
            real = name != NORMAL and not name.startswith(ALIKE)
            found.append(Case(f"{seed} {news.id}", threshold, real, news.evidence))
    return found


def weights_of(some: list[Case]) -> Floats:
    """A run weighs 1, campaigns as much as all else."""
    runs = [f"{case.run} {case.threshold}" for case in some]
    _, number, count = np.unique(runs, return_inverse=True, return_counts=True)
    weight: Floats = 1 / count[number]
    real = np.array([case.is_campaign for case in some])
    weight /= np.where(real, weight[real].sum(), weight[~real].sum())
    return weight


def values_of(some: list[Case]) -> Floats:
    def value(case: Case, name: str) -> float:
        known = getattr(case.evidence, name)
        return USUAL[name] if known is None else float(known)

    return np.array([[value(case, name) for name in NAMES] for case in some])


def fit(some: list[Case]) -> Floats:
    """Weights of NAMES, none below 0, and the bias."""
    values, weight = values_of(some), weights_of(some)
    sign = np.array([1 if case.is_campaign else -1 for case in some])

    def loss(b: Floats) -> float:
        told = weight * np.log1p(np.exp(-sign * (values @ b[:-1] + b[-1])))
        return float(told.sum() + RIDGE * (b[:-1] ** 2).sum())

    bounds = [(0, None)] * len(NAMES) + [(None, None)]
    return np.asarray(minimize(loss, np.zeros(len(NAMES) + 1), bounds=bounds).x)


def table(some: list[Case]) -> str:
    """How many runs are told of, once at least, by strength."""
    lines = ["| threshold | strength | attacks told of | others |", "| " + "--- | " * 4]
    for threshold in THRESHOLDS:
        runs = [[c for c in some if c.threshold == threshold and c.is_campaign == r] for r in REAL]
        every = [len({case.run for case in own}) for own in runs]
        for limit in LIMITS:
            told = [len({c.run for c in own if c.evidence.strength >= limit}) for own in runs]
            shares = " | ".join(f"{n} of {of}" for n, of in zip(told, every, strict=True))
            lines.append(f"| {threshold} | {limit} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Weights of the evidence for campaigns.")
    parser.add_argument("--seeds", default="301-324", help="first-last")
    parser.add_argument("--judge", action="store_true", help="fit nothing: the weights in use")
    given = parser.parse_args()
    first, last = map(int, given.seeds.split("-"))
    bundle = bundles.load(ScorerSettings().bundle, "cpu")
    some = [case for seed in range(first, last + 1) for case in cases(seed, bundle)]
    if not given.judge:
        *found, bias = fit(some)
        told = ", ".join(f"{name} {w:.2f}" for name, w in zip(NAMES, found, strict=True))
        print(f"fitted: {told}, bias {bias:.2f}; in use: {WEIGHTS}")
    print(table(some))


if __name__ == "__main__":
    main()
