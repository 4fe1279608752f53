"""Events and labels -> a bundle: pre-training, supervision, calibration, on separate users."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from msgspec import Struct

from models import bundle as bundles
from models import schema as schemas
from models.dataset import read, split
from models.network import PRESETS, Attention, NetworkConfig
from models.training.encoder import fit_encoder
from models.training.finish import calibrated, write
from models.training.processes import Processes
from models.training.recipe import Progress, Recipe, epochs_for
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy

SHARES: Final = (0.7, 0.15, 0.15)


class TrainReport(Struct, frozen=True, kw_only=True):
    version: str
    folder: Path
    seconds: float
    epochs: int  # with labels
    metrics: dict[str, Any]


def train(
    data: Sequence[Path],
    labels: Sequence[Path],
    out: Path,
    *,
    name: str = "",
    schema: str | Path = "shop",
    preset: str = "tiny",
    attention: Attention = "causal",
    epochs: int | None = None,
    pretrain_epochs: int = 2,
    time_limit_s: float | None = None,
    seed: int = 0,
    prior: float | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: Progress = lambda _: None,
) -> TrainReport:
    """Read event files in order of arrival, train, and write the bundle `out`.

    `prior`: the share of anomalies to expect in use, if the files hold more or fewer of them.
    Deterministic on a CPU, unless the time limit cuts it short. Raises Misconfigured.
    """
    if preset not in PRESETS:
        raise Misconfigured(f"there is no preset {preset!r}: choose {', '.join(PRESETS)}")
    if attention not in ("causal", "bidirectional"):
        raise Misconfigured(f"there is no attention {attention!r}: choose causal or bidirectional")
    if prior is not None and not 0 < prior < 1:
        raise Misconfigured(f"prior is a share between 0 and 1, not {prior:g}")
    began = time.monotonic()
    if threads:
        torch.set_num_threads(threads)
    processes = Processes(bundles.pick_device(device))
    limit = math.inf if time_limit_s is None else time_limit_s
    policy, read_by = WindowPolicy(), schemas.load(schema)
    dataset = read(data, labels, read_by, policy)
    progress(
        f"read {len(dataset)} events of {len(dataset.users)} users, "
        f"{int(dataset.anomalous.sum())} of them anomalies; {dataset.put_aside} put aside"
    )
    if labels and not any(label is not None for label in dataset.labels):
        raise Misconfigured("no label has the event_id of an event: do the files belong together?")
    fit_on, choose_on, calibrate_on = split(dataset, SHARES, seed)
    if not (len(fit_on) and len(choose_on) and len(calibrate_on)):
        raise Misconfigured("there are too few users to keep some aside: train on more events")
    try:
        out.mkdir(parents=True, exist_ok=True)  # or all the training would be for nothing
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from error

    recipe = Recipe(
        epochs=epochs_for(len(fit_on), 8) if epochs is None else epochs,
        pretrain_epochs=pretrain_epochs,
        time_limit_s=limit,
        seed=seed,
    )
    config = NetworkConfig(size=PRESETS[preset], attention=attention, window=policy.size)
    encoder = fit_encoder(
        read_by, dataset, fit_on, choose_on, config, recipe, processes=processes, progress=progress
    )
    calibration, metrics = calibrated(
        encoder.network, dataset, calibrate_on, prior, processes.device
    )
    version = write(
        out,
        name or f"{read_by.name}-{preset}",
        encoder,
        calibration,
        metrics,
        dataset,
        calibrate_on,
    )
    seconds = time.monotonic() - began
    progress(f"wrote {version} after {seconds:.0f} s")
    return TrainReport(
        version=version, folder=out, seconds=seconds, epochs=encoder.epochs, metrics=metrics
    )
