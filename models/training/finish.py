"""From a fitted network to a bundle: calibration on held-out users, what it is worth there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models import bundle as bundles
from models.calibration import Calibration, fit
from models.dataset import Dataset
from models.inference import run
from models.measures import detection
from models.network import Network
from models.training.encoder import Encoder
from stream_app.core.window import Ints, Windows

_GOLDEN: Final = 12


def calibrated(
    network: Network, data: Dataset, events: Ints, prior: float | None, device: torch.device
) -> tuple[Calibration, dict[str, Any]]:
    """Fitted to the scores of `events`, and the measures of detection on them."""
    windows, task = data.windows.take(events), data.task[events]
    raw = run(network, windows, device).logits[np.arange(len(events)), task]
    anomalous = data.anomalous[events]
    names = network.schema.task_names
    calibration = fit(raw, anomalous, task, len(names), prior)
    scores = calibration.apply(raw, task)
    decided = scores >= np.array(calibration.thresholds)[task]
    groups: dict[str, Sequence[str]] = {"task": [names[t] for t in task]}
    for group in ("family", "difficulty"):
        values = data.of(group)
        groups[group] = [values[at] for at in events]
    return calibration, {"held_out_users": detection(scores, decided, anomalous, groups)}


def write(
    out: Path,
    name: str,
    encoder: Encoder,
    calibration: Calibration,
    metrics: dict[str, Any],
    data: Dataset,
    held_out: Ints,
) -> str:
    """The bundle's version. Its golden windows are some of `held_out`."""
    golden = _golden_events(data, held_out)
    return bundles.save(
        out,
        name,
        encoder.network,
        calibration,
        metrics,
        _compact(data.windows.take(golden)),
        data.task[golden],
    )


def _golden_events(data: Dataset, events: Ints) -> Ints:
    """Some anomalies, some normal events; short and long windows."""
    half = _GOLDEN // 2
    picked = [
        some[np.linspace(0, len(some) - 1, min(half, len(some))).astype(int)]
        for some in (events[data.anomalous[events]], events[~data.anomalous[events]])
        if len(some)
    ]
    return np.concatenate(picked)


def _compact(windows: Windows) -> Windows:
    """The same windows over the rows that they use."""
    used, index = np.unique(windows.index, return_inverse=True)
    return Windows(windows.rows[used], index.reshape(windows.index.shape), windows.length)
