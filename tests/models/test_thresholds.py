"""Rules for thresholds keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.thresholds import Rule, parse, threshold
from stream_app.core.errors import Misconfigured

SCORES = arrays(np.float32, st.integers(20, 200), elements=st.floats(0, 1, width=32))


def none_anomalous(
    scores: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.zeros(len(scores), np.bool_)


@pytest.mark.parametrize("text", ["half", "cost:9", "budget:0.001", "conformal:0.05"])
def test_a_rule_reads_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "half:1", "cost", "cost:0", "budget:1", "budget:x", "cost:inf"]
)
def test_what_is_no_rule_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(Misconfigured, match="budget:S"):
        parse(text)


def test_costs_alone_say_where_an_alarm_pays() -> None:
    scores = np.zeros(3, np.float32)
    assert threshold(Rule("cost", 9), scores, none_anomalous(scores)) == pytest.approx(0.1)


@given(SCORES, st.floats(0.05, 0.9))
def test_a_budget_is_never_overdrawn_and_used_where_no_scores_are_equal(
    scores: np.ndarray[tuple[int], np.dtype[np.float32]], share: float
) -> None:
    limit = np.float32(threshold(Rule("budget", share), scores, none_anomalous(scores)))
    alarmed = int((scores >= limit).sum())
    assert alarmed <= share * len(scores)
    if len(np.unique(scores)) == len(scores):
        assert alarmed == int(share * len(scores))


def test_a_clean_event_to_come_is_called_anomalous_as_rarely_as_asked() -> None:
    rng = np.random.default_rng(3)
    alarms = []
    for _ in range(400):
        past, coming = rng.random(99, np.float32), rng.random(50, np.float32)
        limit = threshold(Rule("conformal", 0.1), past, none_anomalous(past))
        alarms.append(np.mean(coming >= np.float32(limit)))
    assert 0.08 < np.mean(alarms) <= 0.105


def test_labelled_anomalies_do_not_count_as_clean() -> None:
    scores = np.linspace(0, 1, 101, dtype=np.float32)
    limit = threshold(Rule("conformal", 0.1), scores, scores > 0.5)
    assert 0.4 < limit < 0.5


def test_too_few_events_are_said_to_be_too_few() -> None:
    scores = np.zeros(99, np.float32)
    with pytest.raises(Misconfigured, match="at least 1,000 events"):
        threshold(Rule("budget", 0.001), scores, none_anomalous(scores))
