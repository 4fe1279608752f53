"""Decided groups -> messages: what goes where, byte for byte, and that every record ends once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stream_app.core.conformal import tail_of
from stream_app.core.decode import Rejected
from stream_app.core.event import MAX_TIME_MS
from stream_app.core.messages import rfc3339
from stream_app.core.outcome import Message, Outcome, Output, dead_letter, passed_on
from stream_app.core.score import Reason
from stream_app.edges.memory import FixedScorer
from tests.builders import (
    ALERTS,
    EVENTS,
    POISON,
    START_MS,
    TASKS,
    THRESHOLDS,
    Desk,
    browse,
    click,
    purchase,
    record,
    records,
    scores_as_told,
)

TIME = "2023-11-14T22:13:20.000Z"  # START_MS


def body(message: Message) -> dict[str, Any]:
    assert message.value is not None
    found: dict[str, Any] = json.loads(message.value)
    return found


# -- cleaned and quarantined


async def test_a_normal_event_is_passed_on_byte_for_byte_with_our_headers_after_its_own() -> None:
    value = b' {"user_id":"u1", "type":"click","event_time":%d, "own":"\\u00e9"} ' % START_MS
    given_headers = (("trace", b"\x00\xff"), ("shopsentry-score", b"not ours"), ("trace", b"2"))
    desk = Desk()
    await desk.take([record(value, key=b"u1", timestamp=START_MS + 7, headers=given_headers)])
    stamp = [("shopsentry-score", b"0.0000"), ("shopsentry-task", b"click")]
    assert desk.published[Output.CLEANED] == [
        Message(
            b"u1", value, START_MS + 7, [*given_headers, *stamp, ("shopsentry-model", b"fixed")]
        )
    ]


async def test_an_event_without_key_and_headers_gets_none_but_ours() -> None:
    desk = Desk()
    await desk.take(records(click("u1", at_ms=0, score=0.25)))
    (message,) = desk.published[Output.CLEANED]
    assert message.key is None
    assert message.headers == [
        ("shopsentry-score", b"0.2500"),
        ("shopsentry-task", b"click"),
        ("shopsentry-model", b"fixed"),
    ]


async def test_an_anomalous_event_is_quarantined_with_its_reasons_and_not_cleaned() -> None:
    desk = Desk()
    group = [record(click("u1", at_ms=0, score=0.875), key=b"u1", headers=(("a", b"b"),))]
    await desk.take(group)
    (message,) = desk.published[Output.QUARANTINED]
    assert message[:3] == (b"u1", group[0].value, START_MS)
    assert message.headers[:2] == [("a", b"b"), ("shopsentry-score", b"0.8750")]
    name, reasons = message.headers[-1]
    assert name == "shopsentry-reasons"
    assert msgspec.json.decode(reasons, type=list[Reason]) == [
        Reason("rule", 0, "broken", "kept", 1.0)
    ]
    assert not desk.published[Output.CLEANED]


async def test_the_headers_of_one_message_are_not_changed_by_another() -> None:
    desk = Desk()
    marked = [
        record(
            click(f"u{n}", at_ms=0, score=0.9 if n % 2 else 0.0),
            offset=n,
            headers=(("n", b"%d" % n),),
        )
        for n in range(4)
    ]
    await desk.take([*marked, *records(click("u9", at_ms=0), first=4)])
    assert [len(m.headers) for m in desk.published[Output.CLEANED]] == [4, 4, 3]
    assert [len(m.headers) for m in desk.published[Output.QUARANTINED]] == [5, 5]


async def test_each_task_has_its_own_threshold_and_name() -> None:
    desk = Desk()
    await desk.take(
        records(
            browse("u1", at_ms=0, score=0.55),
            click("u2", at_ms=0, score=0.55),
            purchase("u3", at_ms=0, score=0.55),
        )
    )
    tasks = {
        output: [dict(m.headers)["shopsentry-task"] for m in desk.published[output]]
        for output in (Output.CLEANED, Output.QUARANTINED)
    }
    assert tasks == {Output.CLEANED: [b"click", b"purchase"], Output.QUARANTINED: [b"browse"]}


# -- dead letters


async def test_a_dead_letter_keeps_the_bytes_and_says_where_they_came_from_and_why() -> None:
    desk = Desk()
    await desk.take([record(b"\xff\x00", offset=41, key=b"\xfe", headers=(("a", b"\xfd"),))])
    (message,) = desk.published[Output.DEAD_LETTERS]
    assert message[:3] == (b"\xfe", b"\xff\x00", START_MS)
    assert message.headers == [
        ("a", b"\xfd"),
        ("kafka_dlt-original-topic", b"shop.events"),
        ("kafka_dlt-original-partition", b"0"),
        ("kafka_dlt-original-offset", b"41"),
        ("kafka_dlt-original-timestamp", b"%d" % START_MS),
        ("reason", b"not-utf8"),
        ("detail", b"byte 0: invalid start byte"),
    ]


async def test_a_tombstone_is_a_dead_letter_without_value() -> None:
    desk = Desk()
    await desk.take([record(None, key=b"u1")])
    assert desk.published[Output.DEAD_LETTERS][0][:2] == (b"u1", None)


async def test_late_and_poison_records_are_dead_letters_with_their_bytes() -> None:
    #  0 ............ 100 s | 39 s is late by 1 s     then one that the scorer fails on
    group = records(
        click("u1", at_ms=0),
        click("u1", at_ms=100_000),
        click("u1", at_ms=39_000),
        click("u2", at_ms=0, score=POISON),
    )
    desk = Desk()
    outcome = await desk.take(group)
    letters = {dict(m.headers)["reason"]: m.value for m in desk.published[Output.DEAD_LETTERS]}
    assert letters == {b"late": group[2].value, b"poison": group[3].value}
    assert outcome.dead == {"late": 1, "poison": 1}


def test_a_detail_that_is_no_unicode_does_not_stop_a_dead_letter() -> None:
    letter = dead_letter(Rejected(record(b"x"), "invalid", "\ud800"))
    assert letter.headers[-1] == ("detail", b"?")


# -- alerts and risk


async def test_an_alert_tells_who_what_when_and_why() -> None:
    desk = Desk()
    await desk.take(
        records(
            click("u1", at_ms=-2500, event_id="before"),
            click("u1", at_ms=0, event_id="e1", score=0.9),
        )
    )
    (message,) = desk.published[Output.ALERTS]
    assert message[::2] == (b"u1", START_MS)
    assert message.headers == []
    assert body(message) == {
        "specversion": "1.0",
        "id": "e1",
        "source": "shopsentry",
        "type": "shopsentry.alert.v1",
        "subject": "u1",
        "time": TIME,
        "datacontenttype": "application/json",
        "data": {
            "user_id": "u1",
            "task": "click",
            "event_id": "e1",
            "event_type": "click",
            "event_time": START_MS,
            "score": 0.9,
            "threshold": THRESHOLDS.by_task[1],
            "surprise": 0.0,
            "log_likelihood": 0.0,
            "scored": None,
            "model": "fixed",
            "reasons": [
                {
                    "field": "rule",
                    "events_back": 0,
                    "observed": "broken",
                    "expected": "kept",
                    "share": 1.0,
                }
            ],
            "window": {"events": 2, "span_s": 2.5},
            "suppressed": 0,
        },
    }


async def test_an_alert_tells_how_rare_its_score_is_where_the_bundle_knows() -> None:
    clean = tail_of(np.linspace(0, 0.95, 96, dtype=np.float32))
    scorer = FixedScorer(TASKS, replace(THRESHOLDS, tails=(clean,)), scores_as_told)
    desk = Desk(scorer=scorer)
    group = records(click("u1", at_ms=0, score=0.935), click("u2", at_ms=0, score=1.0))
    await desk.take(group)
    told = [body(message)["data"]["p_value"] for message in desk.published[Output.ALERTS]]
    assert told == [0.03093, 0.01031]  # (1 + 2) / 97, 1 / 97
    pipeline = Desk(scorer=scorer).pipeline
    seen = replace(await pipeline.read(EVENTS, group, []), cut=np.array([False, True]))
    alerts = pipeline.compose(await pipeline.decide(seen)).messages[Output.ALERTS]
    assert ["p_value" in body(alert)["data"] for alert in alerts] == [True, False]


async def test_the_risk_of_a_user_is_told_with_every_anomaly() -> None:
    half = ALERTS.risk_half_life_ms
    desk = Desk()
    group = records(
        click("u1", at_ms=-half, event_id="e0", score=0.9),
        click("u1", at_ms=0, event_id="e1"),
        click("u1", at_ms=0, event_id="e2", score=0.9),
    )
    await desk.take(group)
    first, second = desk.published[Output.USER_RISK]
    assert (first.key, second.key) == (b"u1", b"u1")
    assert body(second) == {
        "specversion": "1.0",
        "id": "e2",
        "source": "shopsentry",
        "type": "shopsentry.user-risk.v1",
        "subject": "u1",
        "time": TIME,
        "datacontenttype": "application/json",
        "data": {
            "user_id": "u1",
            "task": "click",
            "at_ms": START_MS,
            "anomalous": 1.5,
            "share": 0.75,  # of the two events not older than the window's span
            "half_life_ms": half,
        },
    }
    assert body(first)["data"]["share"] == 1.0


async def test_within_the_cool_down_there_is_one_alert_and_the_next_one_counts_the_silent() -> None:
    #  ms 0  400  999 | 1000   cool-down 1000      other task, other user: alerts of their own
    desk = Desk()
    await desk.take(
        records(
            *(click("u1", at_ms=at, event_id=f"c{at}", score=0.9) for at in (0, 400, 999, 1000)),
            browse("u1", at_ms=1000, event_id="b1", score=0.9),
            click("u2", at_ms=1000, event_id="c2", score=0.9),
        )
    )
    told = [body(m) for m in desk.published[Output.ALERTS]]
    assert [(a["id"], a["data"]["suppressed"]) for a in told] == [
        ("c0", 0),
        ("c1000", 2),
        ("b1", 0),
        ("c2", 0),
    ]
    assert len(desk.published[Output.QUARANTINED]) == 6


# -- the sum of it


def test_an_outcome_with_a_record_too_few_or_too_many_is_refused() -> None:
    outcome = Outcome()
    outcome.bury(Rejected(record(b"x"), "invalid", ""))
    outcome.check(1)
    outcome.add(Output.ALERTS, passed_on(record(b"x"), []))  # beside the outcomes
    outcome.check(1)
    for records_in in (0, 2):
        with pytest.raises(AssertionError, match="1 outcomes"):
            outcome.check(records_in)


@given(st.integers(0, MAX_TIME_MS))
def test_every_time_that_an_event_may_have_can_be_written_and_read_again(at_ms: int) -> None:
    since_epoch = datetime.fromisoformat(rfc3339(at_ms)) - datetime(1970, 1, 1, tzinfo=UTC)
    assert since_epoch == timedelta(milliseconds=at_ms)


def test_times_are_written_in_utc_with_milliseconds() -> None:
    assert rfc3339(START_MS) == TIME
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1) == "1970-01-01T00:00:00.001Z"


async def test_users_of_a_campaign_are_told_of_once_it_looks_like_one() -> None:
    #  each user looks at another item, then a second later at the campaign's: the same path, rhythm
    desk = Desk()
    acts = [
        act
        for n in range(4)
        for act in (
            click(f"u{n}", at_ms=10 * n, item_id="before", event_id=f"b{n}"),
            click(f"u{n}", at_ms=10 * n + 1000, item_id="between", event_id=f"c{n}"),
            click(f"u{n}", at_ms=10 * n + 2000, item_id="pushed", event_id=f"e{n}", score=0.9),
        )
    ]
    await desk.take(records(*acts))
    third, fourth = desk.published[Output.CAMPAIGNS]
    told = body(fourth)
    data = told.pop("data")
    name = data["campaign_id"]
    assert told == {
        "specversion": "1.0",
        "id": f"{name}-4",
        "source": "shopsentry",
        "type": "shopsentry.campaign.v1",
        "subject": name,
        "time": "2023-11-14T22:13:22.030Z",
        "datacontenttype": "application/json",
    }
    assert (third.key, fourth.key) == (name.encode(), name.encode())
    assert body(third)["id"] == f"{name}-3"
    members, evidence = data.pop("members"), data.pop("evidence")
    assert data == {
        "campaign_id": name,
        "status": "open",
        "kind": "item",
        "thing": "pushed",
        "events": 4,
        "first_ms": START_MS + 2000,
        "last_ms": START_MS + 2030,
        "model": "fixed",
    }
    assert members[3] == {"user_id": "u3", "events": 1, "first_event_id": "e3", "score": 0.9}
    assert evidence.pop("strength") > 0.7
    assert evidence == {
        "users": 4,
        "same_paths": 1.0,
        "certainty": 0.9,
        "same_rhythm": 1.0,
        "new_accounts": None,
    }
