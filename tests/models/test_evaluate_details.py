"""Decisions, calibration, delays, look-alikes and budgets, against scikit-learn and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.evaluate import Scored, Truth, joined, judge
from models.evaluate.curves import FALSE_RATES, RECALLS
from models.evaluate.decisions import decisions
from models.evaluate.reliability import reliability

DAY_MS = 24 * 3600 * 1000


def details(truth: Truth, scored: Scored | np.ndarray) -> dict[str, Any]:
    return judge({"a": scored}, truth, bootstrap=0).detectors["a"].details


def random_truth(seed: int, events: int = 4000) -> tuple[Truth, np.ndarray]:
    """Probabilities that are right."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 4, events)
    anomalous = rng.random(events) < p
    return (
        Truth(
            anomalous=anomalous,
            user=rng.integers(0, 400, events).astype(str),
            at_ms=np.sort(rng.integers(0, 3 * DAY_MS, events)),
            campaign=np.full(events, ""),
            draw=np.zeros(events, np.int64),
            groups={
                "task": rng.choice(["click", "browse"], events),
                "look_alike": np.where(~anomalous & (rng.random(events) < 0.1), "sale", ""),
            },
        ),
        p,
    )


def test_decisions_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, classification_report

    truth, p = random_truth(0)
    decided = p >= 0.3
    found = details(truth, Scored(scores=p, decided=decided))["decisions"]
    y = truth.anomalous
    wanted = classification_report(
        y, decided, target_names=["normal", "anomalous"], output_dict=True
    )
    report = found["classification_report"]
    for ours, theirs in {
        "normal": "normal",
        "anomalous": "anomalous",
        "macro average": "macro avg",
        "weighted average": "weighted avg",
    }.items():
        for name in ("precision", "recall", "support"):
            assert report[ours][name] == pytest.approx(wanted[theirs][name])
        assert report[ours]["f1"] == pytest.approx(wanted[theirs]["f1-score"])
    assert found["accuracy"] == pytest.approx(accuracy_score(y, decided))
    click = truth.groups["task"] == "click"
    assert found["task"]["click"]["accuracy"] == pytest.approx(
        accuracy_score(y[click], decided[click])
    )
    sale = truth.groups["look_alike"] == "sale"
    assert found["look_alikes"]["sale"] == pytest.approx(decided[sale].mean())


def test_nothing_decided_is_no_division_by_zero() -> None:
    found = decisions(np.zeros(3, bool), np.array([True, False, False]))
    assert (found["precision"], found["recall"], found["f1"]) == (0, 0, 0)
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_brier_and_reliability_are_those_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    truth, p = random_truth(1)
    found = details(truth, Scored(scores=p, probability=True))["calibration"]
    assert found["brier"] == pytest.approx(brier_score_loss(truth.anomalous, p))
    observed, predicted = calibration_curve(
        truth.anomalous, p, n_bins=len(found["bins"].events), strategy="quantile"
    )
    assert np.array(found["bins"].observed) == pytest.approx(observed, abs=0.02)
    assert np.array(found["bins"].predicted) == pytest.approx(predicted, abs=0.02)


def test_right_probabilities_have_a_small_error_and_wrong_ones_theirs() -> None:
    truth, p = random_truth(2)
    assert reliability(p, truth.anomalous)["expected_calibration_error"] < 0.02
    off = reliability(np.clip(p + 0.3, 0, 1), truth.anomalous)
    assert off["expected_calibration_error"] == pytest.approx(0.3, abs=0.03)
    flat = reliability(np.full(4, 0.5), np.array([True, False, False, False]))
    assert flat["expected_calibration_error"] == pytest.approx(0.25)
    assert flat["bins"].events == [4]


def test_bins_do_not_part_equal_probabilities() -> None:
    p = np.repeat([0.1, 0.2, 0.9], [50, 30, 20])
    bins = reliability(p, p > 0.5)["bins"]
    assert sorted(bins.events) == [20, 30, 50]


def test_delays_count_the_alerted_event_and_the_campaigns_never_noticed() -> None:
    """Of campaign c, the third event (25 s after the first) outscores all; d is never noticed."""
    clean = [float(n) for n in range(99)]
    campaign = [""] * 99 + ["c"] * 4 + ["d"]
    truth = Truth(
        anomalous=np.array([c != "" for c in campaign]),
        user=np.array([f"u{n}" for n in range(104)]),
        at_ms=np.array([*range(99), 100, 110, 125, 130, 200]) * 1000,
        campaign=np.array(campaign),
        draw=np.zeros(104, np.int64),
        groups={},
    )
    found = details(truth, np.array([*clean, 5, 6, 200, 300, 1]))["delays"]["1%"]
    assert found["campaigns"] == 2
    assert found["noticed"] == 1
    assert found["median_events"] == 3
    assert found["median_seconds"] == 25
    assert found["noticed_within_events"]["2"] == 0
    assert found["noticed_within_events"]["3"] == 0.5
    assert found["noticed_within_seconds"]["10"] == 0
    assert found["noticed_within_seconds"]["60"] == 0.5


def test_look_alikes_inside_a_budget() -> None:
    """Of 200 clean events two may be alerted at 1 %: one sale of four, and one plain event."""
    kinds = ["sale"] * 4 + [""] * 196 + [""]
    truth = Truth(
        anomalous=np.array([False] * 200 + [True]),
        user=np.array([f"u{n}" for n in range(201)]),
        at_ms=np.arange(201),
        campaign=np.full(201, ""),
        draw=np.zeros(201, np.int64),
        groups={"look_alike": np.array(kinds)},
    )
    scores = np.array([9.0, 1, 1, 1, 8.0] + [0.0] * 195 + [10.0])
    found = details(truth, scores)["look_alikes"]["1%"]
    assert found["share_alerted"] == {"sale": 0.25}
    assert found["share_of_false_alarms"] == 0.5


def test_budgets_asked_against_achieved_by_day_and_draw() -> None:
    truth, p = random_truth(3)
    both = joined([truth, truth])
    limit = float(np.quantile(p[~truth.anomalous], 0.99))
    scored = Scored(scores=np.append(p, p), limits={0.01: [limit]})
    found = details(both, scored)["budgets"]["1%"]
    assert found["asked"] == 0.01
    assert found["achieved"] == pytest.approx(0.01, abs=0.0005)
    assert found["by_draw"] == pytest.approx([found["achieved"]] * 2)
    first_day = ~truth.anomalous & (truth.at_ms < DAY_MS)
    assert list(found["by_day"]) == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert found["by_day"]["1970-01-01"] == pytest.approx((p[first_day] > limit).mean())


def test_curves_pass_through_the_points_of_scikit_learn() -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    truth, p = random_truth(4)
    scores = np.round(p, 2)
    curves = details(truth, scores)["curves"]
    false, true, _ = roc_curve(truth.anomalous, scores, drop_intermediate=False)
    at = np.searchsorted(false, FALSE_RATES + 1e-12, side="right") - 1
    assert curves["roc"] == pytest.approx(true[at].tolist())
    precision, recall, _ = precision_recall_curve(truth.anomalous, scores)
    for wanted, found in zip(RECALLS, curves["precision_recall"], strict=True):
        reached = np.flatnonzero(recall >= wanted - 1e-9)[-1]
        assert found == pytest.approx(precision[reached])
    shares = curves["histogram"]["shares"]
    assert set(shares) == {"normal", "look-alike", "anomalous"}
    assert all(sum(share) == pytest.approx(1) for share in shares.values())


def test_users_of_look_alikes_count_by_the_events_that_resemble_attacks() -> None:
    #  100 clean users; one may be alerted, by the highest of all their scores. Users 0 to 3 were in
    #  a sale, user 0 alone is that high, by an ordinary event
    users = [*range(100), 0, 1, 2, 3, 200]
    alike = [""] * 100 + ["sale"] * 4 + [""]
    scores = [0.9, *[0.1] * 99, 0.2, 0.3, 0.3, 0.3, 0.99]
    count = len(users)
    truth = Truth(
        anomalous=np.arange(count) == count - 1,
        user=np.array(users).astype(str),
        at_ms=np.arange(count),
        campaign=np.full(count, ""),
        draw=np.zeros(count, np.int64),
        groups={"look_alike": np.array(alike), "task": np.full(count, "click")},
    )
    found = details(truth, np.array(scores))["look_alike_users"]
    assert found["10/1000users"] == {"sale": 0.0, "others": 0.0}
    scores[100] = 0.95
    found = details(truth, np.array(scores))["look_alike_users"]
    assert found["10/1000users"] == {"sale": 0.25, "others": 0.0}
    scores[50] = 0.97
    found = details(truth, np.array(scores))["look_alike_users"]
    assert found["10/1000users"] == {"sale": 0.0, "others": pytest.approx(1 / 96)}
