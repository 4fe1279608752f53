"""Intervals: by user and campaign, paired, and as wide as they must be."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import Scored, Truth, judge
from models.evaluate.panel import AP, AUC, panel_of, sides_of
from models.evaluate.resample import interval, units_of, weights
from models.evaluate.spread import ACHIEVED, ERROR, RATIO


def clustered(
    rng: np.random.Generator, users: int = 60, each: int = 20
) -> tuple[Truth, np.ndarray]:
    """Users whose events score alike, so that the number of users is what counts."""
    user = np.repeat(np.arange(users), each)
    anomalous = user < users // 3
    own = rng.normal(size=users)
    scores = own[user] + 0.1 * rng.normal(size=len(user)) + anomalous
    return (
        Truth(
            anomalous=anomalous,
            user=user.astype(str),
            at_ms=np.arange(len(user)),
            campaign=np.where(anomalous, np.char.add("c", user.astype(str)), ""),
            draw=np.zeros(len(user), np.int64),
            groups={},
        ),
        scores,
    )


def test_a_resample_is_what_repeating_its_events_would_give() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, scores = clustered(np.random.default_rng(0))
    units = units_of(truth)
    panel = panel_of(scores, sides_of(truth, units, 0))
    drawn = next(weights(units, 5, seed=1))
    found = panel.at(drawn)
    for column in range(6):
        times = drawn[units.of, column].astype(int)
        y, s = np.repeat(truth.anomalous, times), np.repeat(scores, times)
        assert found["", "", AP][column] == pytest.approx(average_precision_score(y, s))
        assert found["", "", AUC][column] == pytest.approx(roc_auc_score(y, s))
    assert (drawn[:, 0] == 1).all()
    campaigns = drawn[units.strata[1]]
    assert (campaigns.sum(0) == len(campaigns)).all()


def test_resamples_do_not_depend_on_how_many_come_at_once() -> None:
    units = units_of(clustered(np.random.default_rng(0))[0])
    whole = np.concatenate(list(weights(units, 30, seed=4)), axis=1)
    parts = list(weights(units, 30, seed=4, rows=500_000))
    assert len(parts) > 1
    assert (np.concatenate(parts, axis=1) == whole).all()
    assert (whole != np.concatenate(list(weights(units, 30, seed=5)), axis=1)).any()


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """The area of two shifted normal distributions is known: Phi(1 / sqrt 2.02) = 0.759."""
    held = 0
    for seed in range(60):
        truth, scores = clustered(np.random.default_rng(seed))
        figure = judge({"a": scores}, truth, bootstrap=200, seed=seed).figure("a", AUC)
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= 0.7591 <= figure.high
    assert held >= 51  # of 60; 24 if single events were drawn


def test_differences_are_paired() -> None:
    """Two detectors that differ by a trifle: far surer of the difference than of either."""
    rng = np.random.default_rng(1)
    truth, scores = clustered(rng)
    worse = scores - 0.2 * truth.anomalous
    report = judge({"a": scores, "b": worse}, truth, bootstrap=300)
    one, gap = report.figure("a", AP), report.differences["b"][AP]
    assert one.low is not None
    assert one.high is not None
    assert gap.low is not None
    assert gap.high is not None
    assert gap.value == pytest.approx(one.value - report.figure("b", AP).value)
    assert gap.certain
    assert gap.high - gap.low < (one.high - one.low) / 3
    misses = gap.misses_removed
    assert misses is not None
    assert misses.value == pytest.approx(1 - (1 - one.value) / (1 - one.value + gap.value))


def test_a_detector_against_itself_differs_by_nothing() -> None:
    truth, scores = clustered(np.random.default_rng(2))
    report = judge({"a": scores, "b": scores.copy()}, truth, bootstrap=50)
    gap = report.differences["b"][AP]
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    assert not gap.certain


def test_seeds_widen_an_interval() -> None:
    rng = np.random.default_rng(3)
    truth, scores = clustered(rng)
    steady = judge({"a": np.stack([scores] * 4)}, truth, bootstrap=200).figure("a", AP)
    moody = np.stack([scores + shift * truth.anomalous for shift in (-1.0, -0.5, 0.5, 1.0)])
    varied = judge({"a": moody}, truth, bootstrap=200).figure("a", AP)
    assert varied.high - varied.low > 1.2 * (steady.high - steady.low)  # type: ignore[operator]
    assert steady.sd == 0


def test_resamples_with_nothing_to_measure_are_left_out() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1, 1)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_intervals_of_calibration_and_budgets_are_those_of_repeated_users() -> None:
    truth, scores = clustered(np.random.default_rng(3))
    p = 1 / (1 + np.exp(-np.stack([scores, scores + 0.3])))
    given = Scored(scores=p, probability=True, limits={0.1: [0.8, 0.85]})
    told = judge({"a": given}, truth, bootstrap=60, seed=5).detectors["a"].details
    units = units_of(truth)
    drawn = next(weights(units, 60, seed=5))
    picks = np.random.default_rng((5, 0, 2)).integers(0, 2, (2, 60))
    cuts = np.unique(np.quantile(p, np.arange(1, 15) / 15, method="lower"))
    errors, achieved = [], []
    for column in range(60):
        times = drawn[units.of, column + 1].astype(int)
        some = np.concatenate([np.repeat(p[at], times) for at in picks[:, column]])
        y = np.tile(np.repeat(truth.anomalous, times), 2)
        bins = np.searchsorted(cuts, some, side="right")
        gaps = [abs(some[bins == b].sum() - y[bins == b].sum()) for b in range(15)]
        errors.append(sum(gaps) / len(y))
        alerts = [np.repeat(p[at] > (0.8, 0.85)[at], times) for at in picks[:, column]]
        achieved.append(np.mean(np.concatenate(alerts)[~y]))
    assert told["calibration"][ERROR] == pytest.approx(np.percentile(errors, [2.5, 97.5]))
    kept = told["budgets"]["10%"]
    assert kept[ACHIEVED] == pytest.approx(np.percentile(achieved, [2.5, 97.5]))
    assert kept[RATIO] == pytest.approx(np.array(kept[ACHIEVED]) / 0.1)
    assert kept[ACHIEVED][0] < kept["achieved"] < kept[ACHIEVED][1]
    without = judge({"a": given}, truth, bootstrap=0).detectors["a"].details
    assert ERROR not in without["calibration"]
    assert RATIO not in without["budgets"]["10%"]
