"""What attacks do to a recommender and to user profiles, and how much the cleaned stream undoes.

    .venv/bin/python scripts/measure_correction.py [--model BUNDLE] [--shops 3] [--events 30000]
    .venv/bin/python scripts/measure_correction.py --data FILE --labels FILE

Simulated shops that the shipped model never saw, or labelled events of your own. The last fifth of
the time is to be recommended; the model's own thresholds, of each part of the shop if it has such,
decide what is cleaned.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from models import bundle as bundles
from models.bundle import Bundle
from models.correction import Corrected, correction, taste_of
from models.dataset import read
from models.simulate.shop import SimulationConfig, write
from stream_app.core.decision import decide

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "pretrained" / "shop-tiny"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--shops", type=int, default=3)
    parser.add_argument("--attacks", type=float, default=0.05, help="share of events")
    parser.add_argument("--data", type=Path, help="events, one JSON object a line")
    parser.add_argument("--labels", type=Path)
    asked = parser.parse_args()
    bundle = bundles.load(asked.model, "cpu")
    print(bundle.version)
    if asked.data:
        labels = [asked.labels] if asked.labels else []
        tell(asked.data.name, bundle, [asked.data], labels)
        return
    with tempfile.TemporaryDirectory() as folder:
        made, known = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        for seed in range(901, 901 + asked.shops):
            style = SimulationConfig(seed=seed, events=asked.events, attack_share=asked.attacks)
            write(style, made, known)
            tell(f"simulated shop {seed}, {asked.attacks:.0%} attacks", bundle, [made], [known])


def tell(name: str, bundle: Bundle, events: list[Path], labels: list[Path]) -> None:
    data = read(events, labels, bundle.schema, bundle.schema.window)
    scores = bundles.score(bundle, data.windows, data.task)
    limits = bundle.calibration.decision.of(data.windows, data.task)
    quarantined = decide(scores, limits)
    at_ms = data.windows.rows["at_ms"][data.row]
    later = at_ms > np.quantile(at_ms, 0.8)
    found = correction(taste_of(data, bundle.schema), data.anomalous, quarantined, later)
    show(name, found)


def show(name: str, found: Corrected) -> None:
    users = found.recommended["truth"].users
    print(f"\n{name}: {users} users to recommend to\n")
    print("| measure | truth | polluted | cleaned | undone |\n| --- | --- | --- | --- | --- |")
    undone = found.undone()
    for measure, by in found.by_measure().items():
        values = " | ".join(f"{by[version]:.4f}" for version in ("truth", "polluted", "cleaned"))
        print(f"| {measure} | {values} | {undone[measure]:.0%} |")


if __name__ == "__main__":
    main()
