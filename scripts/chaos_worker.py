"""A worker for the faults: the product's own wiring and settings, with a scorer that costs nothing.

So the delivery is what is tried, and many records pass. Settings come from the environment. If
SHOPSENTRY_TEST_SCORER_MOOD names a file, the scorer is the product's own with the shipped bundle,
over a model that costs nothing and fails: always on some events (`CULPRITS`), and on all as long as
the file says so:

    raises      batches of more than a few windows fail
    no-memory   likewise, as PyTorch says it on a GPU
    hangs       no answer comes
    lost        the device is gone, for good
"""

from __future__ import annotations

import asyncio
import logging.config
import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.encoding import SchemaEncoder
from scripts.benchmarks.scorers import free_encoder, free_rule, free_scorer
from stream_app.core.errors import DeviceFailed
from stream_app.core.outcome import Output
from stream_app.core.ports import Scorer
from stream_app.core.window import Ints, WindowPolicy, Windows
from stream_app.edges.kafka_admin import largest_record, partition_counts
from stream_app.edges.log import logging_config
from stream_app.runner import Runner
from stream_app.settings import HERE, load
from stream_app.wiring import Outputs, worker_app

MOOD: Final = "SHOPSENTRY_TEST_SCORER_MOOD"
CULPRITS: Final = 200  # by the id of an event
RAISES: Final = 7  # of so many, one is not scored without an exception
NAN: Final = 8  # and one comes back as NaN
FEW: Final = 8  # windows, that are scored whatever the mood is


def main() -> None:
    settings = load(None)
    kafka = settings.kafka
    names = kafka.outputs()
    found = asyncio.run(partition_counts(kafka.aiokafka(), 60))
    most = asyncio.run(largest_record(kafka.aiokafka(), names.values(), kafka.max_record_bytes))
    outputs = Outputs({output: found[names[output]] for output in Output}, most)
    scorer, encoder = _scorer(os.environ.get(MOOD))
    logging_of = logging_config("warning", False, False)
    logging.config.dictConfig(logging_of)
    app = worker_app(settings, scorer, encoder, outputs, WindowPolicy())
    Runner(app, logging_of, "warning").run()


def _scorer(mood: str | None) -> tuple[Scorer, SchemaEncoder]:
    encoder = free_encoder()
    if mood is None:
        return free_scorer(encoder), encoder
    from models import judge, scorer  # here: they load torch
    from models.bundle import load

    bundle = load(HERE / "models" / "pretrained" / "shop-tiny", "cpu")
    vars(judge)["hear"] = Shaky(Path(mood))
    return scorer.BundleScorer(bundle), SchemaEncoder(bundle.schema)


class Shaky:
    """Stands for `models.committee.hear`."""

    def __init__(self, mood: Path) -> None:
        self._file = mood

    def __call__(
        self, members: object, names: Ints, windows: Windows, tasks: Ints, *_: object
    ) -> Any:
        from models.committee import Opinions

        self._suffer(len(windows))
        ids = windows.rows["id"][windows.index[:, -1]] % np.uint64(CULPRITS)
        if (ids == RAISES).any():
            raise ValueError("made to fail on this event")
        raw = np.repeat(free_rule(windows, tasks)[:, None] * 24 - 12, len(names), axis=1)
        raw[ids == NAN] = np.nan
        nothing = np.zeros(len(windows), np.float32)
        return Opinions(raw.astype(np.float32), nothing, nothing)

    def _suffer(self, windows: int) -> None:
        while (mood := self._mood()) == "hangs":
            time.sleep(0.05)
        if mood == "lost":
            raise DeviceFailed("made to fail: the device is gone")
        if windows > FEW and mood == "raises":
            raise RuntimeError("made to fail on so many windows")
        if windows > FEW and mood == "no-memory":
            import torch

            raise torch.OutOfMemoryError("made to fail: CUDA out of memory")

    def _mood(self) -> str:
        try:
            return self._file.read_text()
        except FileNotFoundError:
            return ""


if __name__ == "__main__":
    main()
