"""What the shipped bundle finds on simulated shops that it never saw.

    .venv/bin/python scripts/measure_pretrained.py

Four shops, 30,000 events each, seeds 901 to 904 (training had 101 to 112), 3 % attacks. Threshold
and calibration are the bundle's own: nothing here is fitted to what is measured.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import bundle as bundles
from models.dataset import read
from models.evaluate.panel import LOOK_ALIKE_AUC
from models.measures import detection
from models.simulate.shop import SimulationConfig, write
from stream_app.core.window import WindowPolicy

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "pretrained" / "shop-tiny"


def main() -> None:
    bundle = bundles.load(SHIPPED, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        events, labels = [], []
        for seed in range(901, 905):
            events.append(Path(folder) / f"{seed}.jsonl")
            labels.append(Path(folder) / f"{seed}.labels.jsonl")
            write(SimulationConfig(seed=seed, events=30_000), events[-1], labels[-1])
        found = read(events, labels, bundle.schema, WindowPolicy())
    scores = bundles.score(bundle, found.windows, found.task)
    groups: dict[str, Sequence[str]] = {
        "difficulty": found.of("difficulty"),
        "family": found.of("family"),
        "task": [bundle.schema.task_names[task] for task in found.task],
    }
    decided = scores >= bundle.calibration.thresholds[0]
    alike = np.array([kind != "" for kind in found.of("look_alike")])
    measured = detection(scores, decided, found.anomalous, alike, groups)
    print(f"{bundle.version}: {len(scores)} events, {found.anomalous.mean():.1%} anomalous")
    print("| what | average precision | precision | recall | against look-alikes | false alarms |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = {"all": measured} | {
        f"{group}: {value}": told for group in groups for value, told in measured[group].items()
    }
    for name, row in rows.items():
        print(
            f"| {name} | {row['average_precision']:.2f} | {row['precision']:.2f} "
            f"| {row['recall']:.2f} | {row.get(LOOK_ALIKE_AUC, math.nan):.2f} "
            f"| {row['false_alarm_rate']:.2%} |"
        )
    print(f"look-alikes, falsely: {decided[alike].mean():.1%} of {alike.sum()} events")


if __name__ == "__main__":
    main()
