"""One step of the cool-down and of a user's risk."""

from __future__ import annotations

import pytest

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
