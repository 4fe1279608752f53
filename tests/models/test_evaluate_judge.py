"""Measures against scikit-learn and against cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import Scored, Truth, joined, judge
from models.evaluate.panel import AP, AUC, LOOK_ALIKE_AUC, RARE_AP
from models.measures import average_precision
from stream_app.core.errors import Misconfigured


def truth(
    anomalous: list[int] | np.ndarray,
    *,
    user: list[str] | None = None,
    campaign: list[str] | None = None,
    at_s: list[int] | None = None,
    **groups: list[str],
) -> Truth:
    """By default every event has a user of its own."""
    flags = np.array(anomalous, bool)
    events = len(flags)
    return Truth(
        anomalous=flags,
        user=np.array(user or [f"u{n}" for n in range(events)]),
        at_ms=np.array(at_s if at_s is not None else range(events)) * 1000,
        campaign=np.array(campaign or [""] * events),
        draw=np.zeros(events, np.int64),
        groups={name: np.array(values) for name, values in groups.items()},
    )


def random_truth(seed: int, events: int = 3000, signal: float = 1.0) -> tuple[Truth, np.ndarray]:
    """Some users' clean events and twenty campaigns; scores are rounded, so that many are equal."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(events) < 0.05
    number = rng.integers(0, 20, events)
    hard = np.where(number % 2 == 0, "hard", "easy")
    made = truth(
        anomalous,
        user=[f"u{n}" for n in rng.integers(0, 300, events)],
        campaign=np.where(anomalous, np.char.add("c", number.astype(str)), "").tolist(),
        difficulty=np.where(anomalous, hard, "").tolist(),
        look_alike=np.where(~anomalous & (rng.random(events) < 0.1), "sale", "").tolist(),
        task=rng.choice(["click", "browse"], events).tolist(),
    )
    return made, np.round(rng.normal(size=events) + signal * anomalous, 1)


def test_ranking_measures_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    known, scores = random_truth(1)
    report = judge({"a": scores}, known, bootstrap=0)
    y = known.anomalous
    assert report.figure("a", AP).value == pytest.approx(average_precision_score(y, scores))
    assert report.figure("a", AP).value == pytest.approx(average_precision(scores, y))
    assert report.figure("a", AUC).value == pytest.approx(roc_auc_score(y, scores))
    assert report.counts["prevalence"] == pytest.approx(y.mean())
    false, true, _ = roc_curve(y, scores, drop_intermediate=False)
    for budget in (0.001, 0.01):
        reached = true[false <= budget].max()
        assert report.figure("a", f"recall@{budget * 100:g}%").value == pytest.approx(reached)
    hard = known.groups["difficulty"] == "hard"
    some = hard | ~y
    own = report.figure("a", AP, "difficulty", "hard").value
    assert own == pytest.approx(average_precision_score(hard[some], scores[some]))
    alike = hard | (known.groups["look_alike"] != "")
    own = report.figure("a", LOOK_ALIKE_AUC, "difficulty", "hard").value
    assert own == pytest.approx(roc_auc_score(hard[alike], scores[alike]))
    click = known.groups["task"] == "click"
    own = report.figure("a", AUC, "task", "click").value
    assert own == pytest.approx(roc_auc_score(y[click], scores[click]))


def test_average_precision_at_another_prevalence_is_that_of_repeated_normal_events() -> None:
    from sklearn.metrics import average_precision_score

    known, scores = random_truth(2)
    y = known.anomalous
    # 1 % of the weight: every normal event counts as often as it takes.
    times = y.sum() * 99 / (~y).sum()
    wanted = average_precision_score(y, scores, sample_weight=np.where(y, 1.0, times))
    assert judge({"a": scores}, known, bootstrap=0).figure("a", RARE_AP).value == pytest.approx(
        wanted
    )


def test_a_draw_that_is_rare_enough_needs_no_other_prevalence() -> None:
    known = truth([1] + [0] * 199)
    report = judge({"a": np.arange(200.0)}, known, bootstrap=0)
    assert RARE_AP not in report.detectors["a"].figures


def test_equal_scores_are_nobodys_merit() -> None:
    known = truth([1, 0, 0, 1])
    report = judge({"same": np.zeros(4), "right": np.array([4.0, 3, 2, 1])}, known, bootstrap=0)
    assert report.figure("same", AP).value == 0.5
    assert report.figure("same", AUC).value == 0.5
    assert report.figure("same", "recall@1%").value == 0
    assert report.figure("right", AP).value == 0.75


def test_the_first_alert_of_a_campaign() -> None:
    """99 clean users; of campaign c, the third of four events outscores all of them.

    c:  0 s low    10 s low    25 s high    30 s high         d: never
    """
    clean = list(range(99))
    known = truth(
        [0] * 99 + [1] * 4 + [1],
        campaign=[""] * 99 + ["c"] * 4 + ["d"],
        at_s=[*clean, 100, 110, 125, 130, 200],
    )
    scores = np.array([*clean, 5, 6, 200, 300, 1], float)
    found = judge({"a": scores}, known, bootstrap=0).detectors["a"].figures
    assert found["campaigns@1%"].value == 0.5
    assert found["let_through@1%"].value == pytest.approx((2 / 4 + 1) / 2)
    assert found["campaigns@10/1000users"].value == 0.5


def test_a_budget_of_users_counts_users_not_events() -> None:
    """One clean user of a hundred has many high scores: that is one false alarm in a hundred."""
    known = truth(
        [0] * 109 + [1] * 2,
        user=[f"u{n}" for n in range(99)] + ["loud"] * 10 + ["x", "x"],
        campaign=[""] * 109 + ["c", "c"],
    )
    scores = np.array([0.0] * 99 + [9.0] * 10 + [5.0, 5.0])
    found = judge({"a": scores}, known, bootstrap=0).detectors["a"].figures
    assert found["campaigns@1%"].value == 0
    assert found["campaigns@10/1000users"].value == 1


def test_draws_and_seeds_are_averaged_not_pooled() -> None:
    known, scores = random_truth(3)
    other, theirs = random_truth(4)
    both = joined([known, other])
    assert both.draw.tolist() == [0] * len(known) + [1] * len(other)
    # The second draw's scores are on another scale: pooled, it would drown the first.
    seeds = np.stack([np.append(scores, theirs * 100), np.append(scores, -theirs)])
    found = judge({"a": seeds}, both, bootstrap=0)
    single = [
        [average_precision(scores, known.anomalous), average_precision(own, other.anomalous)]
        for own in (theirs, -theirs)
    ]
    assert found.detectors["a"].runs[AP] == [pytest.approx(row) for row in single]
    assert found.figure("a", AP).value == pytest.approx(np.mean(single))
    assert found.figure("a", AP).sd == pytest.approx(np.std(single, ddof=1))


def test_what_cannot_be_measured_is_refused() -> None:
    known = truth([1, 0, 0, 1])
    with pytest.raises(Misconfigured, match="1 of 4 scores that are no finite"):
        judge({"a": np.array([1.0, 2, np.nan, 3])}, known)
    with pytest.raises(Misconfigured, match=r"scored 3 events, but 4"):
        judge({"a": np.zeros(3)}, known)
    with pytest.raises(Misconfigured, match="are normal"):
        judge({"a": np.zeros(2)}, truth([0, 0]))
    with pytest.raises(Misconfigured, match="outside 0 to 1"):
        judge({"a": Scored(scores=np.arange(4.0), probability=True)}, known)
    with pytest.raises(Misconfigured, match="no detector 'b'"):
        judge({"a": np.zeros(4)}, known, reference="b")
    with pytest.raises(Misconfigured, match="1 limits for 1%, but 2 seeds"):
        judge({"a": Scored(scores=np.zeros((2, 4)), limits={0.01: [1.0]})}, known)
