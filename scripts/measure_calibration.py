"""Whether probabilities mean what they say, and whether alert budgets hold on later days.

    .venv/bin/python scripts/measure_calibration.py [--model FOLDER] [--events 1000000] [--seed 62]
    .venv/bin/python scripts/measure_calibration.py --data events.jsonl --labels labels.jsonl

A simulated shop, or files of one in arrival order (repeatable: draws of attacks). As a shop
would with `shopsentry calibrate`: lines and curves are fitted to the earlier half of the events of
70 % of the users, limits to all events of that half. Calibration is told of the later half's events
of the other 30 %; budgets of the later half. Intervals: 95 %, over users, drawn for both halves at
once, as a user's days resemble each other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset, lot, read
from models.evaluate.reliability import reliability
from models.recalibration import Method, refit
from models.simulate.shop import SimulationConfig, write

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "pretrained" / "shop-tiny"
KNOWN = 0.7  # of the users
BUDGETS = (0.001, 0.01)
DAY_MS = 24 * 3600 * 1000
METHODS: tuple[Method, ...] = ("keep", "temperature", "platt", "isotonic")
_BATCH = 1 << 16

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Judged(Struct, frozen=True):
    """Events in order of arrival, with the model's word before calibration."""

    raw: NDArray[np.float32]
    task: NDArray[np.int64]
    user: NDArray[np.int64]  # numbers from 0
    known: Flags
    later: Flags
    anomalous: Flags
    at_ms: NDArray[np.int64]


class Kept(Struct, frozen=True):
    """What became of a budget on the later half."""

    limit_on: int  # events that the limit was set on
    alerts: int
    ratio: float
    low: float
    high: float
    days: tuple[float, float]  # ratio on the lowest and the highest day


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=62)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--labels", type=Path, action="append", default=[])
    parser.add_argument("--bootstrap", type=int, default=500)
    asked = parser.parse_args()
    bundle = bundles.load(asked.model, "auto")
    if len(asked.data) != len(asked.labels):
        parser.error("give --labels for each --data")
    found = [judged(*pair, bundle) for pair in zip(asked.data, asked.labels, strict=True)]
    if not found:
        found = [simulated(asked.events, asked.days, asked.seed, bundle)]
    tell(bundle, found, asked.bootstrap)


def simulated(events: int, days: int, seed: int, bundle: Bundle) -> Judged:
    config = SimulationConfig(seed=seed, events=events, span_ms=days * DAY_MS)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        write(config, *paths)
        return judged(*paths, bundle)


def judged(events: Path, labels: Path, bundle: Bundle) -> Judged:
    schema = bundle.schema
    data = read([events], [labels], schema, schema.window)
    known = np.array([lot(name, 0) < KNOWN for name in data.users])
    return Judged(
        raw_of(bundle, data),
        data.task.astype(np.int64),
        data.user.astype(np.int64),
        known[data.user],
        np.arange(len(data)) >= len(data) // 2,
        data.anomalous,
        data.windows.rows["at_ms"][data.row].astype(np.int64),
    )


def raw_of(bundle: Bundle, data: Dataset) -> NDArray[np.float32]:
    parts = []
    for at in range(0, len(data), _BATCH):
        some = np.arange(at, min(at + _BATCH, len(data)))
        parts.append(bundles.raw_score(bundle, data.windows.take(some), data.task[some]))
    return np.concatenate(parts).astype(np.float32)


def tell(bundle: Bundle, found: list[Judged], bootstrap: int) -> None:
    later = sum(int(one.later.sum()) for one in found)
    share = np.mean([one.anomalous[one.later].mean() for one in found])
    print(f"{bundle.version}: {len(found)} draws, {later:,} later events, {share:.2%} anomalous")
    print("| probabilities | expected calibration error | told | Brier score | skill |")
    print("| --- | --- | --- | --- | --- |")
    for method in METHODS:
        print(calibration_row(bundle, found, method, bootstrap))
    print()
    print("| budget | of | alerts | asked ratio 1 | lowest and highest day |")
    print("| --- | --- | --- | --- | --- |")
    for budget in BUDGETS:
        for of, clean in (("clean events", True), ("all events", False)):
            kept = [kept_of(bundle, one, budget, clean, bootstrap) for one in found]
            ratio, low, high = (
                float(np.mean([getattr(k, name) for k in kept]))
                for name in ("ratio", "low", "high")
            )
            days = f"{np.mean([k.days[0] for k in kept]):.2f} to "
            days += f"{np.mean([k.days[1] for k in kept]):.2f}"
            alerts = np.mean([k.alerts for k in kept])
            print(
                f"| {budget:.1%} | {of} | {alerts:,.0f} | {ratio:.2f} [{low:.2f}, {high:.2f}] "
                f"| {days} |"
            )


def calibration_row(bundle: Bundle, found: list[Judged], method: Method, bootstrap: int) -> str:
    """Means over the draws, of later events of users that no line was fitted to."""
    told, upper = [], []
    for one in found:
        fit_on = ~one.later & one.known
        line = refit(
            bundle.calibration, one.raw[fit_on], one.anomalous[fit_on], one.task[fit_on], method
        )
        own = one.later & ~one.known
        scores, anomalous = line.apply(one.raw[own], one.task[own]), one.anomalous[own]
        told.append(reliability(scores, anomalous))
        errors = [
            reliability(scores[some], anomalous[some])["expected_calibration_error"]
            for some in resampled(one.user[own], min(bootstrap, 100))
        ]
        upper.append(np.quantile(errors, 0.975))
    mean = {name: np.mean([t[name] for t in told]) for name in told[0] if name != "bins"}
    return (
        f"| {method} | {mean['expected_calibration_error']:.4f} (97.5 %: {np.mean(upper):.4f}) "
        f"| {mean['mean_probability']:.2%} of {mean['prevalence']:.2%} "
        f"| {mean['brier']:.4f} | {mean['brier_skill']:.2f} |"
    )


def resampled(user: NDArray[np.int64], times: int) -> list[NDArray[np.int64]]:
    """Events of users drawn with replacement."""
    dice = np.random.default_rng(0)
    people = np.unique(user, return_inverse=True)[1]
    found = []
    for _ in range(times):
        count = np.bincount(dice.integers(0, people.max() + 1, people.max() + 1))
        weight = np.pad(count, (0, people.max() + 1 - len(count)))
        found.append(np.repeat(np.arange(len(user)), weight[people]))
    return found


def kept_of(bundle: Bundle, one: Judged, budget: float, clean: bool, bootstrap: int) -> Kept:
    """Limit on the earlier half, alerts of the later one. `clean`: anomalies count in neither."""
    scores = bundle.calibration.apply(one.raw, one.task).astype(np.float64)
    counted = ~one.anomalous if clean else np.ones(len(scores), np.bool_)
    before, after = np.flatnonzero(counted & ~one.later), np.flatnonzero(counted & one.later)
    before = before[np.argsort(-scores[before], kind="stable")]
    after = after[np.argsort(-scores[after], kind="stable")]

    def ratio(weight: Floats) -> float:
        earlier, later = np.cumsum(weight[one.user[before]]), np.cumsum(weight[one.user[after]])
        limit = scores[before[np.searchsorted(earlier, budget * earlier[-1], side="right")]]
        alerts = np.searchsorted(-scores[after], -limit, side="left")
        return float(later[alerts - 1] / later[-1] / budget) if alerts else 0.0

    people = int(one.user.max()) + 1
    dice = np.random.default_rng(0)
    drawn = [
        ratio(dice.multinomial(people, np.full(people, 1 / people)).astype(np.float64))
        for _ in range(bootstrap)
    ]
    limit = scores[before[int(budget * len(before))]]
    alerted = scores[after] > limit
    day = (one.at_ms[after] - one.at_ms[one.later].min()) // DAY_MS
    by_day = [alerted[day == d].mean() / budget for d in np.unique(day) if (day == d).sum() > 1000]
    low, high = np.quantile(drawn, (0.025, 0.975))
    everything = ratio(np.ones(people))
    return Kept(
        len(before),
        int(alerted.sum()),
        everything,
        float(low),
        float(high),
        (float(min(by_day)), float(max(by_day))),
    )


if __name__ == "__main__":
    main()
