"""From fitted members to a bundle: calibration on held-out users, what it is worth there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models import bundle as bundles
from models import fusion
from models.committee import hear
from models.dataset import Dataset
from models.fusion import Fusion
from models.measures import average_precision, detection
from models.members import Members
from models.packing import compact
from stream_app.core.window import Ints

_GOLDEN: Final = 12


def calibrated(
    members: Members,
    data: Dataset,
    events: Ints,
    prior: float | None,
    device: torch.device,
    threads: int = 1,
) -> tuple[Fusion, dict[str, Any]]:
    """Fitted to the scores of `events`, and the measures of detection on them."""
    task, anomalous = data.task[events], data.anomalous[events]
    names, schema = members.names, members.schema
    windows = data.windows.take(events)
    said = hear(members, names, windows, task, device, threads=max(threads, 1))
    tasks = schema.task_names
    grown = list(members.trees)
    raw = dict(zip(names, said.raw.T, strict=True))
    found = fusion.fit(raw, grown, anomalous, task, len(tasks), prior)
    final = found.final(names)
    scores = final.apply(found.mean(said.raw, names, grown, task), task)
    decided = scores >= np.array(final.thresholds)[task]
    groups: dict[str, Sequence[str]] = {"task": [tasks[t] for t in task]}
    for group in ("family", "difficulty"):
        values = data.of(group)
        groups[group] = [values[at] for at in events]
    kinds = data.of("look_alike")
    alike = np.array([kinds[at] != "" for at in events], bool)
    metrics: dict[str, Any] = {
        "held_out_users": detection(scores, decided, anomalous, alike, groups)
    }
    if len(names) > 1:
        metrics["members"] = {
            name: {
                "average_precision": average_precision(raw[name], anomalous),
                "of all without it": average_precision(
                    found.mean(np.delete(said.raw, at, 1), others, grown, task), anomalous
                ),
            }
            for at, name in enumerate(names)
            for others in ([*names[:at], *names[at + 1 :]],)
        }
    return found, metrics


def write(
    out: Path,
    name: str,
    members: Members,
    found: Fusion,
    metrics: dict[str, Any],
    data: Dataset,
    held_out: Ints,
) -> str:
    """The bundle's version. Its golden windows are some of `held_out`."""
    golden = _golden_events(data, held_out)
    windows = compact(data.windows.take(golden))
    return bundles.save(out, name, members, found, metrics, windows, data.task[golden])


def _golden_events(data: Dataset, events: Ints) -> Ints:
    """Some anomalies, some normal events; short and long windows."""
    half = _GOLDEN // 2
    picked = [
        some[np.linspace(0, len(some) - 1, min(half, len(some))).astype(int)]
        for some in (events[data.anomalous[events]], events[~data.anomalous[events]])
        if len(some)
    ]
    return np.concatenate(picked)
