"""The shipped bundle, on a shop that it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models import bundle as bundles
from models.dataset import Dataset, read
from models.measures import average_precision
from models.schema import Schema
from models.simulate.shop import SimulationConfig, write
from stream_app.core.window import WindowPolicy

SHIPPED = Path(models.__file__).parent / "pretrained" / "shop-tiny"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory, shop: Schema) -> Dataset:
    folder = tmp_path_factory.mktemp("unseen")
    config = SimulationConfig(seed=4711, events=8000, attack_share=0.05)
    write(config, folder / "events.jsonl", folder / "labels.jsonl")
    return read([folder / "events.jsonl"], [folder / "labels.jsonl"], shop, WindowPolicy())


def test_the_shipped_bundle_is_small_and_finds_attacks_on_another_shop(unseen: Dataset) -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 5_000_000
    bundle = bundles.load(SHIPPED, "cpu")
    scores = bundles.score(bundle, unseen.windows, unseen.task)
    assert average_precision(scores, unseen.anomalous) > 4 * unseen.anomalous.mean()
    assert (scores[~unseen.anomalous] >= 0.5).mean() < 0.02


@pytest.mark.gpu
def test_scores_on_cuda_are_those_of_a_cpu_but_for_bf16(unseen: Dataset) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    some = np.arange(0, len(unseen), 3)
    found = [
        bundles.score(bundles.load(SHIPPED, device), unseen.windows.take(some), unseen.task[some])
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(found[1], found[0], atol=0.03)
