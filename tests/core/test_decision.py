"""A calibrated score against the threshold of its own task and segment."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.decision import Thresholds, decide
from stream_app.core.window import Windows

IT, DE, ELSEWHERE = 7, 8, 9
PLAIN = Thresholds((0.2, 0.5, 0.9))
BY_COUNTRY = Thresholds((0.2, 0.5, 0.9), "country", {IT: (0.1, 0.1, 0.1), DE: (0.3, 0.3, 0.3)})
ROW = np.dtype([("at_ms", "<i8"), ("country", "<u4")])


def of_country(*countries: int) -> Windows:
    """A window of two events for each; the older one is from elsewhere."""
    rows = np.zeros(2 * len(countries), ROW)
    rows["country"] = np.repeat(ELSEWHERE, 2 * len(countries))
    rows["country"][1::2] = countries
    index = np.arange(len(rows)).reshape(-1, 2)
    return Windows(rows, index, np.full(len(index), 2))


def decided(scores: list[float], tasks: list[int], thresholds: Thresholds = PLAIN) -> list[bool]:
    windows = of_country(*[ELSEWHERE] * len(scores))
    limits = thresholds.of(windows, np.array(tasks, np.int64))
    found = decide(np.array(scores, np.float32), limits)
    return [bool(anomalous) for anomalous in found]


def test_each_score_is_held_against_its_own_task() -> None:
    assert decided([0.3, 0.3, 0.3], [0, 1, 2]) == [True, False, False]
    assert decided([0.6, 0.6, 0.6], [2, 1, 0]) == [False, True, True]


def test_each_event_is_held_against_the_threshold_of_its_own_segment() -> None:
    tasks = np.array([2, 1, 1, 0])
    limits = BY_COUNTRY.of(of_country(IT, DE, ELSEWHERE, ELSEWHERE), tasks)
    assert limits.tolist() == np.array([0.1, 0.3, 0.5, 0.2], np.float32).tolist()


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


SCORES = st.floats(0, 1, width=32) | st.just(float("nan"))
LIMITS = st.tuples(*[st.floats(0, 1)] * 3)


@given(
    st.lists(st.tuples(SCORES, st.integers(0, 2), st.sampled_from([IT, DE, ELSEWHERE]))),
    LIMITS,
    st.dictionaries(st.sampled_from([IT, DE]), LIMITS),
)
def test_a_decision_is_the_score_against_the_limit_of_its_task_and_segment(
    events: list[tuple[float, int, int]],
    plain: tuple[float, ...],
    by_segment: dict[int, tuple[float, ...]],
) -> None:
    thresholds = Thresholds(plain, "country", by_segment)
    scores = np.array([score for score, _, _ in events], np.float32)
    tasks = np.array([task for _, task, _ in events], np.int64)
    windows = of_country(*[country for _, _, country in events])
    found = decide(scores, thresholds.of(windows, tasks))
    assert found.tolist() == [
        score >= float(np.float32(by_segment.get(country, plain)[task]))
        for score, task, country in events
    ]
