"""A calibrated score against the threshold of its own task."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.decision import Thresholds, decide

THRESHOLDS = Thresholds((0.2, 0.5, 0.9))


def decided(scores: list[float], tasks: list[int]) -> list[bool]:
    found = decide(np.array(scores, np.float32), np.array(tasks, np.int64), THRESHOLDS)
    return [bool(anomalous) for anomalous in found]


def test_each_score_is_held_against_its_own_task() -> None:
    assert decided([0.3, 0.3, 0.3], [0, 1, 2]) == [True, False, False]
    assert decided([0.6, 0.6, 0.6], [2, 1, 0]) == [False, True, True]


def test_a_score_at_the_threshold_is_anomalous_also_where_float32_rounds() -> None:
    assert decided([0.2, 0.5, 0.9], [0, 1, 2]) == [True, True, True]
    assert decided([0.1999, 0.4999, 0.8999], [0, 1, 2]) == [False, False, False]


def test_a_score_that_is_no_number_is_not_anomalous() -> None:
    assert decided([float("nan"), 1.0], [0, 0]) == [False, True]


def test_nothing_to_decide_is_no_error() -> None:
    assert decided([], []) == []


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 2)), max_size=20))
def test_a_decision_does_not_depend_on_its_neighbours(pairs: list[tuple[float, int]]) -> None:
    together = decided([score for score, _ in pairs], [task for _, task in pairs])
    assert together == [decided([score], [task])[0] for score, task in pairs]
