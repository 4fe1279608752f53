"""P-values from a small table: never below the exact ones, hardly above."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.thresholds import Rule, threshold
from stream_app.core.conformal import Tail, tail_of
from stream_app.core.decision import Thresholds

SCORES = arrays(np.float32, st.integers(0, 300), elements=st.floats(0, 1, width=32))


def exact(clean: np.ndarray, score: float) -> float:
    return float((1 + (clean >= score).sum()) / (1 + len(clean)))


@given(SCORES, st.floats(0, 1, width=32))
def test_a_p_value_is_never_too_small_and_hardly_too_large(clean: np.ndarray, score: float) -> None:
    tail = tail_of(clean)
    assert tail.sound
    for one in (score, *clean[:5].tolist()):
        told = float(tail.p_values(np.array([one], np.float32))[0])
        assert exact(clean, one) <= told <= 1.05 * exact(clean, one) + 1e-12


@given(SCORES.filter(lambda s: len(s) >= 20), st.floats(0.05, 0.9))
def test_what_a_conformal_threshold_calls_anomalous_is_as_rare_as_was_asked(
    clean: np.ndarray, share: float
) -> None:
    limit = threshold(Rule("conformal", share), clean, np.zeros(len(clean), np.bool_))
    tail = tail_of(clean, [limit])
    scores = np.append(clean, np.array([0, 0.5, 1], np.float32))
    rare = tail.p_values(scores)
    assert (rare[scores >= np.float32(limit)] <= share + 1e-12).all()


def test_clean_events_are_as_rare_as_their_p_values_say() -> None:
    dice = np.random.default_rng(0)
    tail = tail_of(dice.beta(1, 9, 50_000).astype(np.float32))
    assert len(tail.scores) < 250
    rare = tail.p_values(dice.beta(1, 9, 200_000).astype(np.float32))
    for share in (0.001, 0.01, 0.1, 0.5):
        assert (rare <= share).mean() == pytest.approx(share, rel=0.25)


def test_a_table_is_the_same_after_it_was_written_down() -> None:
    tail = tail_of(np.random.default_rng(1).random(1000, np.float32), [0.7])
    assert msgspec.json.decode(msgspec.json.encode(tail), type=Tail) == tail
    assert np.isnan(tail.p_values(np.array([np.nan], np.float32)))[0]
    assert not msgspec.structs.replace(tail, above=tail.above[:-1]).sound
    assert not msgspec.structs.replace(tail, scores=tail.scores[::-1]).sound


def test_each_task_may_have_a_table_of_its_own() -> None:
    tails = (tail_of(np.full(9, 0.5, np.float32)), tail_of(np.zeros(99, np.float32)))
    scores, tasks = np.full(3, 0.5, np.float32), np.array([0, 1, 0])
    both = Thresholds((0.5, 0.5), tails=tails).p_values(scores, tasks)
    assert both is not None
    assert both.tolist() == [1, 0.01, 1]
    one = Thresholds((0.5, 0.5), tails=tails[1:]).p_values(scores, tasks)
    assert one is not None
    assert one.tolist() == [0.01] * 3
    assert Thresholds((0.5, 0.5)).p_values(scores, tasks) is None
