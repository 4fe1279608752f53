"""Scores that promise the wrong probability are put right, and keep their order."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration import Calibration, Line, fit
from models.recalibration import Method, held_out, refit
from stream_app.core.errors import Misconfigured

EVENTS = 6000
PROUD = Calibration((Line(3.0, 0.0, 0, 0),) * 2, (0.5, 0.5))  # three times too sure


class Slice:
    """Events whose true log-odds are known; what a model says of them has a kink."""

    def __init__(self, seed: int, kink: float = 1.5) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.normal(-2.0, 2.0, EVENTS)
        self.raw = np.where(self.truth < -2, 1, kink) * (self.truth + 2) - 2
        self.anomalous = rng.random(EVENTS) < self.chance
        self.tasks = rng.integers(0, 2, EVENTS)
        self.users = rng.integers(0, 300, EVENTS)

    @property
    def chance(self) -> NDArray[Any]:
        return np.asarray(1 / (1 + np.exp(-self.truth)))


def off(scores: NDArray[Any], some: Slice) -> float:
    return float(np.abs(scores - some.chance).mean())


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_each_method_comes_closer_to_the_truth_on_users_it_did_not_see(method: Method) -> None:
    some = Slice(1)
    before = PROUD.apply(some.raw, some.tasks)
    after = held_out(PROUD, some.raw, some.anomalous, some.tasks, some.users, method)
    assert off(after, some) < 0.7 * off(before, some)


def test_a_curve_follows_what_no_line_can() -> None:
    some, later = Slice(2, kink=8), Slice(3, kink=8)
    found = {
        method: refit(PROUD, some.raw, some.anomalous, some.tasks, method)
        for method in ("platt", "isotonic")
    }
    error = {m: off(c.apply(later.raw, later.tasks), later) for m, c in found.items()}
    assert error["isotonic"] < error["platt"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(get_args(Method)))
def test_a_higher_raw_score_never_gets_the_lower_probability(seed: int, method: Method) -> None:
    some = Slice(seed)
    after = refit(PROUD, some.raw, some.anomalous, some.tasks, method)
    grid = np.linspace(-30, 60, 900)
    for task in (0, 1):
        scores = after.apply(grid, np.full(len(grid), task))
        assert (np.diff(scores) >= 0).all()
        assert 0 <= scores.min() <= scores.max() <= 1


def test_the_order_of_scores_is_kept_within_level_parts() -> None:
    some = Slice(4)
    after = refit(PROUD, some.raw, some.anomalous, some.tasks, "isotonic")
    scores = after.apply(np.linspace(-4, 4, 200), np.zeros(200, np.int64))
    assert len(np.unique(scores)) > 150


def test_scores_of_a_half_come_from_the_users_of_the_other_half() -> None:
    some = Slice(5)
    one = held_out(PROUD, some.raw, some.anomalous, some.tasks, some.users, "platt")
    changed = some.anomalous.copy()
    mine = some.users == some.users[0]
    changed[mine] = ~changed[mine]
    two = held_out(PROUD, some.raw, changed, some.tasks, some.users, "platt")
    assert (one[mine] == two[mine]).all()
    assert (one != two).any()


def test_a_calibration_that_fits_is_kept_as_it_is() -> None:
    some = Slice(6)
    right = fit(some.raw, some.anomalous, some.tasks, 2)
    assert refit(right, some.raw, some.anomalous, some.tasks, "keep") == right


def test_too_few_labels_are_refused_with_a_way_out() -> None:
    some = Slice(7)
    with pytest.raises(Misconfigured, match="--method keep"):
        refit(PROUD, some.raw, np.zeros(EVENTS, np.bool_), some.tasks, "isotonic")
