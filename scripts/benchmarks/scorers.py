"""The two scorers of the benchmark: one that costs nothing, and the shipped model on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models import schema
from models.encoding import SchemaEncoder
from stream_app.core.decision import Thresholds
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Windows
from stream_app.edges.memory import FixedScorer

Plain = tuple[SchemaEncoder, Callable[[Windows, Ints], Floats], str]  # and the version
ANOMALOUS = 100  # one event in so many


def free_encoder(name: str = "shop") -> SchemaEncoder:
    return SchemaEncoder(schema.load(name))


def free_rule(windows: Windows, tasks: Ints) -> Floats:
    """A score out of the newest event's id: one in ANOMALOUS is anomalous, the same ones ever."""
    ids = windows.rows["id"][windows.index[:, -1]]
    usual = (ids & np.uint64(63)).astype(np.float32) / 200
    return np.where(ids % np.uint64(ANOMALOUS) == 0, np.float32(0.99), usual)


def free_scorer(encoder: SchemaEncoder) -> FixedScorer:
    tasks = encoder.schema.tasks
    return FixedScorer(tasks, Thresholds((0.5,) * len(tasks.names)), free_rule)


def free() -> Plain:
    """The free scorer as a plain function."""
    return free_encoder(), free_rule, "free"


def model(folder: Path) -> Plain:
    """A bundle as a plain function, on the calling thread."""
    import torch

    from models.bundle import load, score

    torch.set_num_threads(1)  # for single windows faster than two, much so on a busy machine
    bundle = load(folder, "cpu")
    encoder = SchemaEncoder(bundle.schema)
    return encoder, lambda windows, tasks: score(bundle, windows, tasks), bundle.version
