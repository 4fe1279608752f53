"""Each baseline on a small shop with crude bots: better than chance, repeatable, causal."""

from __future__ import annotations

import numpy as np
import pytest

from models.baselines import NAMES, detectors
from models.dataset import Dataset, split
from models.measures import average_precision
from stream_app.core.errors import Misconfigured


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_finds_crude_bots(name: str, dataset: Dataset) -> None:
    fit_on, choose_on, judge = split(dataset, (0.5, 0.2, 0.3), seed=0)
    (detector,) = detectors([name])
    detector.fit(dataset, fit_on, choose_on)
    scores = detector.score(dataset, judge)
    assert scores.dtype == np.float64
    prevalence = dataset.anomalous[judge].mean()
    assert average_precision(scores, dataset.anomalous[judge]) > 2 * prevalence


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(Misconfigured, match="'nonsense'"):
        detectors(["nonsense"])
