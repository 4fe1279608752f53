"""What a bundle tells of itself, against what a report tells of the same scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models.evaluate import Truth, judge
from models.evaluate.panel import AP, LOOK_ALIKE_AUC
from models.measures import detection

EVENTS = 2000


def measured(look_alikes: float) -> tuple[dict[str, Any], Truth, np.ndarray]:
    """Also the truth and the scores, many of which are equal."""
    rng = np.random.default_rng(3)
    anomalous = rng.random(EVENTS) < 0.05
    alike = ~anomalous & (rng.random(EVENTS) < look_alikes)
    scores = np.round(rng.normal(size=EVENTS) + anomalous + alike, 1)
    difficulty = np.where(anomalous, rng.choice(["easy", "hard"], EVENTS), "")
    task = rng.choice(["click", "browse"], EVENTS)
    groups = {"difficulty": difficulty.tolist(), "task": task.tolist()}
    truth = Truth(
        anomalous=anomalous,
        user=np.array([f"u{at}" for at in range(EVENTS)]),
        at_ms=np.arange(EVENTS),
        campaign=np.full(EVENTS, ""),
        draw=np.zeros(EVENTS, np.int64),
        groups={
            "difficulty": difficulty,
            "task": task,
            "look_alike": np.where(alike, "sale", ""),
        },
    )
    return detection(scores, scores > 2, anomalous, alike, groups), truth, scores


def test_attacks_of_each_difficulty_stand_against_look_alikes_as_in_a_report() -> None:
    found, truth, scores = measured(look_alikes=0.1)
    report = judge({"a": scores}, truth, bootstrap=0)
    for measure in (AP, LOOK_ALIKE_AUC):
        assert found[measure] == pytest.approx(report.figure("a", measure).value)
        for value in ("easy", "hard"):
            told = report.figure("a", measure, "difficulty", value).value
            assert found["difficulty"][value][measure] == pytest.approx(told)
    assert all(LOOK_ALIKE_AUC not in own for own in found["task"].values())


def test_without_look_alikes_nothing_is_told_of_them() -> None:
    found, _, _ = measured(look_alikes=0)
    assert math.isnan(found[LOOK_ALIKE_AUC])
