"""How far explanations can be trusted: deletion tests, and hit rates against what is known.

    .venv/bin/python scripts/measure_explanations.py

Simulated shops that no bundle was trained on (seeds 901 to 904), 95 % intervals by campaign. Where
the gradient is taken, and how much an unusual cell counts, was chosen on seeds 905 to 908. Falls
are of the calibrated score of the encoder that explains.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset, read
from models.explain.attribution import AT, Method
from models.explain.deletion import (
    Orders,
    estimate,
    interval,
    shortened,
    shuffled,
    strongest,
    strongest_events,
    weigh,
    without_cells,
    without_events,
)
from models.explain.explanation import window_events
from models.explain.hits import PLANTS, cells_hit, events_hit, plant
from models.reasons import Explainer
from models.simulate.shop import SimulationConfig, write
from stream_app.core.window import Ints, Windows

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "pretrained" / "shop-tiny"
COUNTS = (1, 3, 5, 10, 20)
METHODS: dict[str, tuple[Method, float]] = {
    "gradient x input (the stream's)": ("gradient", AT),
    "gradient x input, at the window": ("gradient", 1.0),
    "integrated gradients (--deep)": ("path", 1.0),
}
Tables = Sequence[NDArray[np.float64]]


class Judged:
    """Some caught attack events: their windows, campaigns, and tables by each method."""

    def __init__(self, bundle: Bundle, data: Dataset, events: Ints, seed: int) -> None:
        self.bundle, self.data, self.events = bundle, data, events
        self.network, self.device = bundle.network, bundle.device
        self.windows, self.tasks = data.windows.take(events), data.task[events]
        campaigns = np.array(data.of("campaign"))[events]
        self.campaign = np.unique(campaigns, return_inverse=True)[1]
        self.score = bundles.score(bundle, self.windows, self.tasks).astype(np.float64)
        self.rng = np.random.default_rng(seed)
        self.tables = {
            name: weigh(self.network, self.windows, self.tasks, self.device, method, at).tables
            for name, (method, at) in METHODS.items()
        }
        self.without = self._leave_one_out()

    def _leave_one_out(self) -> list[NDArray[np.float64]]:
        """How far the score falls without each earlier event."""
        found = []
        for at, length in enumerate(self.windows.length.tolist()):
            earlier = length - 1
            same = self.windows.take(np.full(earlier, at))
            each = shortened(same, [np.array([place]) for place in range(earlier)])
            scores = bundles.score(self.bundle, each, self.tasks[[at] * earlier])
            found.append(self.score[at] - scores.astype(np.float64))
        return found

    def fall(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """(windows, counts) of the calibrated score."""
        task = np.repeat(self.tasks, raw.shape[1])
        after = self.bundle.calibration.apply(raw.reshape(-1), task).reshape(raw.shape)
        return self.score[:, None] - after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--shops", type=int, nargs="+", default=list(range(901, 905)))
    parser.add_argument("--events", type=int, default=30_000, help="of each shop")
    parser.add_argument("--windows", type=int, default=400, help="explained at most")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    loaded = bundles.load(asked.model, "cpu")
    bundle = bundles.choose(loaded, [next(iter(loaded.members.encoders))])
    data = _shops(bundle, asked.shops, asked.events)
    scores = bundles.score(bundle, data.windows, data.task)
    limits = bundle.calibration.decision.of(data.windows, data.task)
    rng = np.random.default_rng(0)
    caught = np.flatnonzero(data.anomalous & (scores >= limits) & (data.windows.length > 1))
    judged = Judged(bundle, data, _spread(data, caught, asked.windows, rng), seed=1)
    print(
        f"{loaded.version}: {len(judged.events)} of {len(caught)} caught attack events, of "
        f"{judged.campaign.max() + 1} campaigns, windows of {judged.windows.length.mean():.0f} "
        "events on average\n"
    )
    _cells(judged)
    _events(judged)
    _owners(judged)
    calm = np.flatnonzero(~data.anomalous & (scores < limits) & (data.windows.length > 16))
    _planted(bundle, data, rng.permutation(calm)[: asked.windows])
    _families(judged)


def _shops(bundle: Bundle, seeds: Sequence[int], count: int) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        events = [Path(folder) / f"{seed}.jsonl" for seed in seeds]
        labels = [Path(folder) / f"{seed}.labels.jsonl" for seed in seeds]
        for seed, *files in zip(seeds, events, labels, strict=True):
            write(SimulationConfig(seed=seed, events=count), *files)
        return read(events, labels, bundle.schema, bundle.schema.window)


def _spread(data: Dataset, events: Ints, most: int, rng: np.random.Generator) -> Ints:
    """At most `most`, and of a campaign no more than a twentieth of them."""
    campaigns, taken = data.of("campaign"), Counter[str]()
    kept: list[int] = []
    for event in rng.permutation(events).tolist():
        if len(kept) < most and taken[campaigns[event]] < most // 20:
            taken[campaigns[event]] += 1
            kept.append(event)
    return np.sort(np.array(kept))


def _cells(judged: Judged) -> None:
    """Cells made typical."""

    def fall(orders: Orders) -> NDArray[np.float64]:
        parts = (judged.network, judged.windows, judged.tasks, judged.device)
        return judged.fall(without_cells(*parts, orders, COUNTS))

    orders = {name: strongest(tables) for name, tables in judged.tables.items()}
    falls = {name: fall(order) for name, order in orders.items()}
    last = {
        f"weakest by {name}": fall([o[::-1] for o in orders[name]]) for name in list(orders)[:1]
    }
    drawn = [fall(shuffled(next(iter(orders.values())), judged.rng)) for _ in range(5)]
    parts = judged.bundle, judged.windows, judged.tasks
    falls["the alert's reasons, at most 3"] = fall(_published(*parts))
    falls |= last | {"random cells": np.mean(drawn, 0)}
    _falls("cells made typical", falls, "random cells", judged)


def _events(judged: Judged) -> None:
    """Earlier events left out, counts derived anew."""

    def fall(orders: Orders) -> NDArray[np.float64]:
        parts = (judged.network, judged.windows, judged.tasks, judged.device)
        return judged.fall(without_events(*parts, orders, COUNTS))

    falls = {name: fall(strongest_events(tables)) for name, tables in judged.tables.items()}
    best = [np.argsort(-fallen, kind="stable") for fallen in judged.without]
    earlier = [np.arange(length - 1) for length in judged.windows.length]
    falls["score without the event"] = fall(best)
    falls["weakest by score without the event"] = fall([order[::-1] for order in best])
    falls["newest events"] = fall([order[::-1] for order in earlier])
    drawn = [fall(shuffled(earlier, judged.rng)) for _ in range(5)]
    falls["random events"] = np.mean(drawn, 0)
    _falls("earlier events left out", falls, "random events", judged)


def _falls(what: str, falls: dict[str, NDArray[np.float64]], against: str, judged: Judged) -> None:
    heads = " | ".join(map(str, COUNTS))
    print(f"| {what}: fall of the score, by how many | {heads} | mean | less {against} |")
    print(f"| --- |{' --- |' * (len(COUNTS) + 2)}")
    for name, fall in falls.items():
        means = " | ".join(f"{value:.3f}" for value in fall.mean(0))
        area = _told(interval(fall.mean(1), judged.campaign, judged.rng))
        pair = np.stack([fall.mean(1), falls[against].mean(1)], 1)
        more = estimate(pair, judged.campaign, judged.rng, lambda m: float(m[0] - m[1]))
        print(f"| {name} | {means} | {area} | {'' if name == against else _told(more)} |")
    print()


def _owners(judged: Judged) -> None:
    """Windows with earlier events of both: whose is the strongest?"""
    data = judged.data
    theirs = [data.anomalous[window_events(data, int(at))[:-1]] for at in judged.events]
    mixed = [at for at, own in enumerate(theirs) if 0 < own.sum() < len(own)]
    if not mixed:
        print("no window has earlier events of attacker and owner\n")
        return
    truth, groups = [theirs[at] for at in mixed], judged.campaign[mixed]
    print(
        f"| {len(mixed)} windows of hijacked accounts: the attacker's | strongest earlier event |"
    )
    print("| --- | --- |")
    sums = {n: [t[:-1].sum(1) for t in tables] for n, tables in judged.tables.items()}
    sums["score without the event"] = judged.without
    sums["newest"] = [np.arange(len(own), dtype=float) for own in theirs]
    for name, weights in sums.items():
        hit = events_hit([weights[at] for at in mixed], truth)
        print(f"| {name} | {_told(interval(hit, groups, judged.rng))} |")
    base = interval(np.array([own.mean() for own in truth]), groups, judged.rng)
    print(f"| any (share of the window) | {_told(base)} |\n")


def _planted(bundle: Bundle, data: Dataset, events: Ints) -> None:
    """One thing changed in honest windows, where the encoder took notice."""
    heads = " | ".join(f"{name}: first, first 3" for name in METHODS)
    print(f"| planted in honest windows | noticed | {heads} | alert | alert before | any cell |")
    print(f"| --- |{' --- |' * (len(METHODS) + 4)}")
    rng = np.random.default_rng(2)
    for name, kind in PLANTS.items():
        made = plant(bundle.network, data.windows.take(events), kind, 3, bundle.device)
        tasks = _tasks(bundle, made.after)
        rise = _raw(bundle, made.after, tasks) - _raw(bundle, made.before, tasks)
        noticed = np.flatnonzero(rise >= 1)
        if len(noticed) < 10:
            print(f"| {name} | {len(noticed)} of {len(events)} |{' |' * (len(METHODS) + 3)}")
            continue
        after, before = made.after.take(noticed), made.before.take(noticed)
        tasks, touched = tasks[noticed], [made.touched[at] for at in noticed.tolist()]
        users = data.user[events[noticed]]

        def hits(
            orders: Orders,
            touched: Sequence[NDArray[np.bool_]] = touched,
            users: Ints = users,
        ) -> str:
            first = interval(cells_hit(orders, touched, 1), users, rng)
            return f"{_told(first)}, {cells_hit(orders, touched, 3).mean():.2f}"

        told = [
            hits(strongest(weigh(bundle.network, after, tasks, bundle.device, *method).tables))
            for method in METHODS.values()
        ]
        told.append(hits(_published(bundle, after, tasks)))
        told.append(hits(_published(bundle, before, tasks)))
        base = np.mean([flags.mean() for flags in touched])
        print(f"| {name} | {len(noticed)} of {len(events)} | {' | '.join(told)} | {base:.2f} |")
    print()


def _families(judged: Judged) -> None:
    """What the alerts of each family name first."""
    cells, _ = judged.network.cells()
    families = np.array(judged.data.of("family"))[judged.events]
    tables = next(iter(judged.tables.values()))
    print("| family | caught | strongest field, the three most frequent |")
    print("| --- | --- | --- |")
    for family in np.unique(families):
        own = np.flatnonzero(families == family).tolist()
        named = Counter(cells[int(np.argmax(tables[at])) % len(cells)] for at in own)
        told = ", ".join(f"{name} {count / len(own):.0%}" for name, count in named.most_common(3))
        print(f"| {family} | {len(own)} | {told} |")


def _tasks(bundle: Bundle, windows: Windows) -> Ints:
    """By the scored event's type, which a plant may have changed."""
    types = windows.rows["type"][windows.index[:, -1]]
    found: Ints = np.array(bundle.schema.task_of_type, np.int64)[types]
    return found


def _published(bundle: Bundle, windows: Windows, tasks: Ints) -> list[Ints]:
    """The cells of the reasons that an alert has."""
    place = {name: at for at, name in enumerate(bundle.network.cells()[0])}
    explainer = Explainer(bundle.network, bundle.statistics, bundle.device)
    found = explainer.explain(windows, tasks.tolist())
    return [
        np.array([(length - 1 - r.events_back) * len(place) + place[r.field] for r in reasons], int)
        for length, reasons in zip(windows.length.tolist(), found, strict=True)
    ]


def _raw(bundle: Bundle, windows: Windows, tasks: Ints) -> NDArray[np.float64]:
    return bundles.raw_score(bundle, windows, tasks).astype(np.float64)


def _told(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
