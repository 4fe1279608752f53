"""What `flow.coalesce_behind` gains, and what it costs: one pass for a user's windows of a group.

    .venv/bin/python -m scripts.measure_coalesced [--model FOLDER] [--events 120000] [--seeds 71-73]

Simulated shops that the model never saw, in groups of 512 and 2,048 records. Both ways score each
group in turn, on one CPU thread; ratios are of the same groups. Differences of average precision
and recall are paired, with 95 % intervals over users.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import read_labels
from models.encoding import SchemaEncoder
from models.measures import average_precision
from models.packing import lines_of
from models.simulate.shop import SimulationConfig, write
from scripts.measure_calibration import SHIPPED, resampled
from stream_app.core.coalesce import coalesced
from stream_app.core.decode import decode
from stream_app.core.record import Source, StoredRecord
from stream_app.core.window import Ints, Windows, as_of, seq_of, source_tag
from stream_app.edges.memory import MemoryWindows

SOURCE: Final = Source("events", 0)
GROUPS: Final = (512, 2048)
WARM: Final = 0.3  # of a shop's events fill windows


class Group(Struct, frozen=True):
    """A group after stage 2, by whole windows and by cut ones."""

    whole: Windows
    cut: Windows
    which: NDArray[np.bool_]  # (windows,) are cut
    tasks: Ints
    users: list[str]
    ids: list[str]


class Told(Struct):
    """Of the groups of one size."""

    whole: list[NDArray[np.float32]] = []
    cut: list[NDArray[np.float32]] = []
    which: list[NDArray[np.bool_]] = []
    limits: list[NDArray[np.float32]] = []
    anomalous: list[bool] = []
    users: list[str] = []
    seconds: list[tuple[float, float]] = []
    computed: list[tuple[int, int]] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seeds", default="71-73")
    parser.add_argument("--bootstrap", type=int, default=300)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bundle = bundles.load(asked.model, "cpu")
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    print(
        "| group | events computed | times the rate | windows cut "
        "| decisions changed | average precision | recall |\n|" + " --- |" * 7
    )
    for size in GROUPS:
        told = Told()
        for seed in seeds:
            measure(told, bundle, asked.events, asked.hours, seed, size)
        print(row(told, size, asked.bootstrap), flush=True)


def measure(told: Told, bundle: Bundle, events: int, hours: int, seed: int, size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        config = SimulationConfig(seed=seed, events=events, span_ms=hours * 3_600_000)
        write(config, *paths)
        labels = read_labels([paths[1]])
        lines = paths[0].read_bytes().splitlines()
    for group in groups(lines, bundle, size):
        scores, took = [], []
        for windows in (group.whole, group.cut):
            began = time.perf_counter()
            scores.append(bundles.score(bundle, windows, group.tasks))
            took.append(time.perf_counter() - began)
        told.whole.append(scores[0])
        told.cut.append(scores[1])
        told.which.append(group.which)
        told.limits.append(bundle.calibration.decision.of(group.whole, group.tasks))
        told.anomalous += [bool(labels[one].label) for one in group.ids]
        told.users += [f"{seed} {user}" for user in group.users]
        told.seconds.append((took[0], took[1]))
        told.computed.append((computed(group.whole), computed(group.cut)))


def groups(lines: list[bytes], bundle: Bundle, size: int) -> Iterator[Group]:
    """Those after the warm-up."""
    encoder, policy = SchemaEncoder(bundle.schema), bundle.schema.window
    windows, tag = MemoryWindows(encoder.row, policy), source_tag(SOURCE.topic)
    of_type = bundle.schema.tasks.of_type
    for begin in range(0, len(lines), size):
        records = [
            StoredRecord(
                topic=SOURCE.topic, partition=0, offset=at, timestamp=1 << 41, key=None, value=line
            )
            for at, line in enumerate(lines[begin : begin + size], begin)
        ]
        decoded = decode(records, bundle.schema.tasks)
        rows = encoder.encode(decoded.events)
        rows["seq"] = [seq_of(tag, record.offset + 1) for record in decoded.records]
        users = [event.user_id.encode() for event in decoded.events]
        logs = asyncio.run(windows.slide(SOURCE, users, rows, [seq_of(tag, begin)]))
        accepted, whole = as_of(logs, policy)
        if begin < WARM * len(lines):
            continue
        cut, which = coalesced(whole, logs.start[accepted], logs.place[accepted])
        some = [decoded.events[at] for at in accepted.tolist()]
        yield Group(
            whole,
            cut,
            which,
            np.array([of_type[event.type] for event in some], np.int64),
            [event.user_id for event in some],
            [event.event_id or "" for event in some],
        )


def computed(windows: Windows) -> int:
    """Events that the passes over these windows have."""
    return int(windows.length[lines_of(windows, shared=True).lines].sum())


def row(told: Told, size: int, bootstrap: int) -> str:
    whole, cut = np.concatenate(told.whole), np.concatenate(told.cut)
    which, anomalous = np.concatenate(told.which), np.array(told.anomalous)
    limit = np.concatenate(told.limits)
    people = np.unique(told.users, return_inverse=True)[1]

    def gaps(some: Ints | slice) -> tuple[float, float]:
        truth = anomalous[some]
        precision = [average_precision(scores[some], truth) for scores in (whole, cut)]
        recall = [float((scores[some] >= limit[some])[truth].mean()) for scores in (whole, cut)]
        return precision[1] - precision[0], recall[1] - recall[0]

    drawn = np.array([gaps(some) for some in resampled(people, bootstrap)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    told_of = [
        f"{gap:+.4f} [{low[at]:+.4f} {high[at]:+.4f}]" for at, gap in enumerate(gaps(slice(None)))
    ]
    seconds, events = np.array(told.seconds), np.array(told.computed).sum(0)
    ratio = seconds[:, 0] / seconds[:, 1]
    quarters = np.quantile(ratio, (0.25, 0.75))
    changed = ((whole >= limit) != (cut >= limit)).mean()
    return (
        f"| {size:,} | {events[1] / events[0]:.2f} of those of whole windows "
        f"| {seconds[:, 0].sum() / seconds[:, 1].sum():.2f} ({quarters[0]:.2f}–{quarters[1]:.2f}) "
        f"| {which.mean():.1%} | {changed:.3%} | {told_of[0]} | {told_of[1]} |"
    )


if __name__ == "__main__":
    main()
