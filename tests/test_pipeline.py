"""A group through all stages over edges in memory: one outcome a record, whatever came."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.core.outcome import (
    COALESCED,
    DUPLICATES,
    OUTCOMES,
    SCORED_HEADER,
    Message,
    Output,
)
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.record import Source, StoredRecord
from stream_app.pipeline import Policies
from tests.builders import (
    ALERTS,
    EVENTS,
    POISON,
    WINDOWS,
    Desk,
    act,
    click,
    envelope,
    parts,
    record,
    records,
)

PASSED_ON = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS)


@st.composite
def streams(draw: st.DrawFn, at_most: int = 60) -> list[StoredRecord]:
    """Good, anomalous, poison, late, repeated and undecodable records of a few users."""
    made: list[StoredRecord] = []
    now = 0
    for offset in range(draw(st.integers(0, at_most))):
        now += draw(st.sampled_from([0, 1, 300, 5000]))
        value = draw(st.sampled_from([None, b"", b"nonsense", b"{}", b"\xff", *[b"event"] * 15]))
        key = None
        if value == b"event":
            user = draw(st.sampled_from(["a", "b", "c"]))
            late_ms = draw(st.sampled_from([0, 0, 0, 0, 200, 90_000]))
            score = draw(st.sampled_from([None, 0.1, 0.1, 0.55, 0.95, POISON]))
            kind = draw(st.sampled_from(["click", "browse", "purchase", "cart", "teleport"]))
            number = draw(st.sampled_from([offset, offset, offset, max(0, offset - 1), 0]))
            event = act(kind, user, now - late_ms, score, event_id=f"{user}{number}", item_id="one")
            made_of = draw(st.sampled_from([event, event, envelope(event)]))
            value, key = json.dumps(made_of).encode(), draw(st.sampled_from([None, user.encode()]))
        headers = (("trace", b"%d" % offset),) if draw(st.booleans()) else ()
        made.append(record(value, offset=offset, key=key, headers=headers))
    return made


@settings(max_examples=150, deadline=None)
@given(streams(), st.integers(1, 20))
async def test_every_record_has_one_outcome_and_the_counts_add_up(
    group: list[StoredRecord], group_records: int
) -> None:
    desk, total = Desk(), Counter[str]()
    for part in parts(group, group_records):
        outcome = await desk.take(part, committed=part[0].offset)
        total.update(outcome.counts)
        assert sum(outcome.counts[kind] for kind in OUTCOMES) == len(part)
        assert outcome.dead.total() == outcome.counts[Output.DEAD_LETTERS]
    published = {output: len(desk.published[output]) for output in Output}
    assert {output: total[output] for output in Output} == published
    assert published[Output.USER_RISK] == published[Output.QUARANTINED]
    assert published[Output.ALERTS] <= published[Output.QUARANTINED]

    # No record in two places, and none lost but the duplicates.
    ended = Counter((m.key, m.value) for output in PASSED_ON for m in desk.published[output])
    came = Counter((r.key, r.value) for r in group)
    assert ended <= came
    assert (came - ended).total() == total[DUPLICATES]


@settings(max_examples=150, deadline=None)
@given(streams())
async def test_what_is_passed_on_is_the_input_with_headers_added_in_input_order(
    group: list[StoredRecord],
) -> None:
    desk = Desk()
    await desk.take(group)
    for output in PASSED_ON:
        left = iter(group)
        for message in desk.published[output]:
            origin = next((r for r in left if _is_of(message, r)), None)
            assert origin is not None, "not a record of the input, or not in its order"
            added = message.headers[len(origin.headers) :]
            assert added
            assert not {name for name, _ in added} & {"trace"}
            assert message.timestamp == origin.timestamp


def _is_of(message: Message, origin: StoredRecord) -> bool:
    own = tuple(message.headers[: len(origin.headers)]) == origin.headers
    return own and message[:2] == (origin.key, origin.value)


@settings(max_examples=100, deadline=None)
@given(streams(), st.data())
async def test_outputs_do_not_depend_on_how_records_fell_into_groups(
    group: list[StoredRecord], data: st.DataObject
) -> None:
    whole, cut = Desk(), Desk()
    await whole.take(group)
    begin = 0
    while begin < len(group):
        end = data.draw(st.integers(begin + 1, len(group)))
        await cut.take(group[begin:end], committed=begin)
        begin = end
    assert cut.published == whole.published


async def test_what_was_scored_by_a_window_that_was_cut_says_so_and_nothing_else_changes() -> None:
    group = records(*(click("u", at_ms=n, score=0.95) for n in range(3 * WINDOWS.size)))
    said = []
    for coalesce in (False, True):
        pipeline = Desk().pipeline
        cut = await pipeline.read(EVENTS, group, [], coalesce)
        said.append(pipeline.compose(await pipeline.decide(cut)))
    aside = [outcome.messages[Output.QUARANTINED] for outcome in said]
    scored = [dict(message.headers).get(SCORED_HEADER) for message in aside[1]]
    assert scored == [b"coalesced" if which else None for which in cut.cut.tolist()]
    assert 0 < said[1].counts[COALESCED] == sum(cut.cut) < len(group)
    plain = [m._replace(headers=[h for h in m.headers if h[0] != SCORED_HEADER]) for m in aside[1]]
    assert plain == aside[0]
    alerts = [json.loads(m.value or b"")["data"] for m in said[1].messages[Output.ALERTS]]
    assert [alert["scored"] for alert in alerts] == [None]  # the user's first: its log is short


async def test_groups_of_1_7_and_512_give_the_same_outputs() -> None:
    scores = [None, 0.1, 0.95, POISON, 0.55, None, 0.1]
    group = records(
        *(
            b"nonsense"
            if n % 31 == 30
            else act(
                ("click", "browse", "purchase")[n % 3],
                f"u{n * 7 % 11}",
                n * 40 - (65_000 if n % 23 == 22 else 300 * (n % 5)),
                scores[n % 7],
                event_id=f"e{n - 12 if n % 29 == 28 else n}",
                item_id=f"i{n % 3}",
            )
            for n in range(1500)
        )
    )
    desks = {size: Desk() for size in (1, 7, 512)}
    for size, desk in desks.items():
        await desk.take_all(group, group_records=size)
    found = {size: desk.published for size, desk in desks.items()}
    assert found[1] == found[7] == found[512]
    for output in Output:
        assert found[1][output], f"no {output}: the test shows nothing"
    assert {dict(m.headers)["reason"] for m in found[1][Output.DEAD_LETTERS]} == {
        b"not-json",
        b"late",
        b"poison",
    }


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(1, 20), st.data())
async def test_a_group_delivered_again_gives_the_same_messages(
    group: list[StoredRecord], group_records: int, data: st.DataObject
) -> None:
    desk = Desk()
    seen: list[tuple[list[StoredRecord], dict[Output, list[Message]]]] = []
    for part in parts(group, group_records):
        outcome = await desk.take(part)  # nothing is committed: all may come again
        seen.append((list(part), outcome.messages))
    if not seen:
        return
    first = data.draw(st.integers(0, len(seen) - 1))
    for part, before in seen[first:]:
        again = (await desk.take(part)).messages
        for output in (*PASSED_ON, Output.ALERTS, Output.CAMPAIGNS):
            assert again.get(output) == before.get(output)
        # The risk of a user is a state, not an event: told again, it is the newest.
        assert _last_of_each(again).keys() == _last_of_each(before).keys()
    assert _last_of_each(again) == _last_of_each(seen[-1][1])


def _last_of_each(messages: dict[Output, list[Message]]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for message in messages.get(Output.USER_RISK, []):
        data = json.loads(message.value or b"")["data"]
        found[data["user_id"], data["task"]] = data["anomalous"]
    return found


async def test_after_a_cool_down_the_user_alerts_again_over_the_bounds_of_groups() -> None:
    group = records(*(click("u1", at_ms=at, score=0.9) for at in (0, 500, 999, 1001, 1500, 2100)))
    for size in (1, 2, 6):
        desk = Desk()
        await desk.take_all(group, group_records=size)
        ids = [json.loads(m.value or b"")["id"] for m in desk.published[Output.ALERTS]]
        assert ids == ["shop.events-0-0", "shop.events-0-3", "shop.events-0-5"]


async def test_a_group_of_bad_records_asks_neither_windows_nor_scorer() -> None:
    desk = Desk(windows=_Untouchable(), scorer=None)
    outcome = await desk.take(records(b"bad", None))
    assert outcome.dead == {"not-json": 1, "empty": 1}
    assert outcome.counts == {Output.DEAD_LETTERS: 2}


async def test_the_offsets_of_two_topics_have_nothing_to_do_with_each_other() -> None:
    desk, more = Desk(), Source("more-events", EVENTS.partition)
    for source, name in ((EVENTS, "a"), (more, "b"), (EVENTS, "a"), (more, "b")):
        event = click("u1", at_ms=0, event_id=name, score=0.9)
        await desk.take(records(event, source=source), source=source)
    told = [json.loads(m.value or b"")["event_id"] for m in desk.published[Output.QUARANTINED]]
    assert told == ["a", "b", "a", "b"]  # each once, and once more when delivered again
    alerts = [json.loads(m.value or b"")["id"] for m in desk.published[Output.ALERTS]]
    assert alerts == ["a", "a"]  # the second event is within the cool-down of the first


async def test_no_records_are_no_messages() -> None:
    desk = Desk()
    outcome = await desk.take([], source=EVENTS)
    assert (outcome.messages, outcome.counts) == ({}, Counter())


class _Untouchable:
    async def slide(self, *_: object) -> Any:
        pytest.fail("windows were asked")


NAMES = Pseudonyms(b"a key of 32 characters or more..")


@settings(max_examples=50, deadline=None)
@given(streams(), st.integers(1, 20))
async def test_hidden_users_change_what_we_make_and_nothing_that_is_passed_on(
    group: list[StoredRecord], group_records: int
) -> None:
    plain = Desk()
    hiding = Desk(policies=Policies(WINDOWS, ALERTS, NAMES, hide_users=True))
    for desk in (plain, hiding):
        await desk.take_all(group, group_records=group_records)
    for output in PASSED_ON:
        assert hiding.published[output] == plain.published[output]
    for output in (Output.ALERTS, Output.USER_RISK):
        for hidden, named in zip(hiding.published[output], plain.published[output], strict=True):
            assert hidden.value is not None
            assert named.value is not None
            told, known = json.loads(hidden.value), json.loads(named.value)
            user = known["data"]["user_id"]
            assert (named.key, known["subject"]) == (user.encode(), user)
            known["subject"] = known["data"]["user_id"] = NAMES.of(user)
            assert (told, hidden.key) == (known, NAMES.of(user).encode())
    campaigns = (desk.published[Output.CAMPAIGNS] for desk in (hiding, plain))
    for hidden, named in zip(*campaigns, strict=True):
        told, known = json.loads(hidden.value or b""), json.loads(named.value or b"")
        for member in known["data"]["members"]:
            member["user_id"] = NAMES.of(member["user_id"])
        assert told == known


@pytest.mark.parametrize("names", [NAMES, None])
async def test_the_log_tells_of_an_alert_by_the_pseudonym_of_its_user(
    names: Pseudonyms | None, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(policies=Policies(WINDOWS, ALERTS, names))
    alerting = click("user-of-interest", at_ms=0, score=0.9)
    with caplog.at_level(logging.DEBUG, "shopsentry"):
        await desk.take(records(click("u2", at_ms=0), alerting, first=7))
    assert len(desk.published[Output.ALERTS]) == 1
    told = [(vars(r)["user"], vars(r)["offset"], vars(r)["task"]) for r in caplog.records]
    assert told == ([(names.of("user-of-interest"), 8, "click")] if names else [])
