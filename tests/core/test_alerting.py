"""One step of the cool-down and of a user's risk."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict, Watch, step
from stream_app.core.window import seq_of

POLICY = AlertPolicy(cooldown_ms=100, risk_half_life_ms=1000, kept=2)


def anomaly(offset: int, at_ms: int, tag: int = 1) -> Anomaly:
    return Anomaly("u", 0, seq_of(tag, offset + 1), at_ms)


def test_one_alert_in_a_cooldown_which_then_tells_how_many_were_suppressed() -> None:
    #  t 1000 alert   1050, 1099 suppressed   1100 alert
    watch = Watch()
    verdicts = [
        step(watch, anomaly(n, at_ms), POLICY) for n, at_ms in enumerate([1000, 1050, 1099, 1100])
    ]
    assert [(v.alert, v.suppressed) for v in verdicts] == [
        (True, 0),
        (False, 1),
        (False, 2),
        (True, 2),
    ]


def test_risk_halves_in_a_half_life_and_never_grows_back() -> None:
    watch = Watch()
    masses = [
        step(watch, anomaly(n, at_ms), POLICY).mass for n, at_ms in enumerate([5000, 6000, 5500])
    ]
    assert masses == pytest.approx([1.0, 1.5, 2.5])
    assert watch.newest_ms == 6000


def test_a_redelivered_anomaly_is_answered_again_and_changes_nothing() -> None:
    watch = Watch()
    first = [step(watch, anomaly(n, 1000 + 60 * n), POLICY) for n in range(3)]
    assert [v.alert for v in first] == [True, False, True]
    again = [step(watch, anomaly(n, 1000 + 60 * n), POLICY) for n in range(3)]
    assert [v.alert for v in again] == [True, False, True]
    assert [v.suppressed for v in again if v.alert] == [0, 1]
    assert {v.mass for v in again} == {first[-1].mass}


@pytest.mark.parametrize("tags", [(1, 2), (2, 1)])
def test_an_anomaly_of_one_topic_does_not_hide_those_of_another(tags: tuple[int, int]) -> None:
    watch = Watch()
    step(watch, anomaly(7, 1000, tags[0]), POLICY)
    assert step(watch, anomaly(3, 2000, tags[1]), POLICY).alert
    assert step(watch, anomaly(8, 3000, tags[0]), POLICY).alert
    seen_before = step(watch, anomaly(3, 2000, tags[1]), POLICY)
    assert seen_before == Verdict(True, 0, watch.mass)


def test_no_more_alerts_are_remembered_than_asked_for() -> None:
    watch = Watch()
    for n in range(5):
        step(watch, anomaly(n, 1000 * n), POLICY)
    assert [fired.at_ms for fired in watch.fired] == [3000, 4000]


class CoolDown(RuleBasedStateMachine):
    """One user and task over two topics: anomalies in any order of time, and any that came again.

    Beside it the naive way: all that came first, in a list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.policy = AlertPolicy(cooldown_ms=100, risk_half_life_ms=1000, kept=1000)
        self.came: list[tuple[Anomaly, bool, int]] = []  # and whether it alerted, for how many
        self.offsets = {1: 0, 2: 0}
        self.suppressed = 0

    @rule(tag=st.sampled_from([1, 2]), at_ms=st.integers(0, 500), skipped=st.integers(1, 3))
    def comes(self, tag: int, at_ms: int, skipped: int) -> None:
        self.offsets[tag] += skipped
        one = anomaly(self.offsets[tag], at_ms, tag)
        alerted = [a.at_ms for a, alert, _ in self.came if alert]
        alert = not alerted or at_ms - alerted[-1] >= self.policy.cooldown_ms
        suppressed = self.suppressed if alert else self.suppressed + 1
        self.suppressed = 0 if alert else suppressed
        self.came.append((one, alert, suppressed))
        verdict = step(self.watch, one, self.policy)
        assert (verdict.alert, verdict.suppressed) == (alert, suppressed)

    @precondition(lambda self: self.came)
    @rule(data=st.data())
    def comes_again(self, data: st.DataObject) -> None:
        one, alert, suppressed = data.draw(st.sampled_from(self.came))
        verdict = step(self.watch, one, self.policy)
        assert verdict.alert == alert
        assert verdict.suppressed == (suppressed if alert else 0)

    @invariant()
    def the_risk_is_what_came_each_faded_since(self) -> None:
        newest = [max(a.at_ms for a, _, _ in self.came[: n + 1]) for n in range(len(self.came))]
        faded = [2.0 ** (-(newest[-1] - at_ms) / 1000) for at_ms in newest]
        assert self.watch.mass == pytest.approx(sum(faded))

    @invariant()
    def no_two_alerts_are_closer_than_the_cooldown(self) -> None:
        times = [fired.at_ms for fired in self.watch.fired]
        assert all(later - sooner >= 100 for sooner, later in pairwise(times))


TestCoolDown = CoolDown.TestCase
