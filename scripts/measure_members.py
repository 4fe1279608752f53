"""What each member of a bundle costs: windows a second, alone and together, on one CPU thread.

    .venv/bin/python scripts/measure_members.py --model my-model [--rounds 5]

Events of a simulated shop in order of arrival, 2,048 a batch as in the stream. All ways take turns
within a round, so that a busy machine slows all of them; ratios are of the same round.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset, read
from models.simulate.shop import SimulationConfig, write
from stream_app.core.window import WindowPolicy

BATCH = 2048
BATCHES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bundle = bundles.load(asked.model, "cpu")
    lead = bundle.members.names[0]
    with tempfile.TemporaryDirectory() as folder:
        events, labels = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        write(SimulationConfig(seed=77, events=30_000), events, labels)
        data = read([events], [], bundle.schema, WindowPolicy())
    ways: dict[str, Callable[[], object]] = {f"{lead} alone": judged(bundle, data, [lead])}
    for name in bundle.members.names[1:]:
        ways[f"{lead} and {name}"] = judged(bundle, data, [lead, name])
    if len(bundle.members.names) > 1:
        ways["all members"] = judged(bundle, data, bundle.members.names)
    ways[f"{lead} alone, and the likelihood of every window"] = judged(bundle, data, [lead], True)
    for way in ways.values():
        way()  # warm
    took = {name: np.empty(asked.rounds) for name in ways}
    for turn in range(asked.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name][turn] = time.perf_counter() - began
    windows = BATCH * BATCHES
    mean = data.windows.length[-windows:].mean()
    print(
        f"{bundle.version}: {windows} windows of {mean:.1f} events, {asked.rounds} rounds, median"
    )
    print("| what | windows/s | more than the lead, us a window | time against the lead's |")
    print("| --- | --- | --- | --- |")
    first = took[f"{lead} alone"]
    for name, seconds in took.items():
        ratio = seconds / first
        more = np.median((seconds - first) / windows) * 1e6
        print(
            f"| {name} | {windows / np.median(seconds):,.0f} | {more:.0f} "
            f"| {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}) |"
        )


def judged(
    bundle: Bundle, data: Dataset, names: list[str] | tuple[str, ...], likelihood: bool = False
) -> Callable[[], object]:
    """Judges the newest events of `data` in batches, by the members `names`."""
    chosen = bundles.choose(bundle, names)
    last = np.arange(len(data) - BATCH * BATCHES, len(data)).reshape(BATCHES, BATCH)
    batches = [(data.windows.take(some), data.task[some]) for some in last]
    return lambda: [
        bundles.opinions(chosen, windows, tasks, likelihood=likelihood)
        for windows, tasks in batches
    ]


if __name__ == "__main__":
    main()
