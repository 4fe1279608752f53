"""The checker against a pipeline in memory: silent when all is well, loud for each thing amiss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.core.audit import Report, Terms, audit
from stream_app.core.expected import Rules
from stream_app.core.outcome import DUPLICATES, Message, Output
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.record import StoredRecord
from stream_app.pipeline import Policies
from tests.builders import ALERTS, TASKS, WINDOWS, Act, Desk, click, record, records

RULES = Rules(tasks=TASKS, windows=WINDOWS)
ONCE = Terms(exactly_once=True)
Outputs = dict[Output, list[StoredRecord]]

FEED: tuple[Act | bytes, ...] = (
    click("a", at_ms=0, event_id="1"),
    click("a", at_ms=10, event_id="2", score=0.9),
    click("b", at_ms=20, event_id="3"),
    b"junk",
    click("a", at_ms=10, event_id="2", score=0.9),  # again
    click("b", at_ms=90_000, event_id="4"),
    click("b", at_ms=1, event_id="5"),  # late
    click("a", at_ms=30, event_id="6", score="poison"),
    click("a", at_ms=40, event_id="7"),
    click("a", at_ms=5000, event_id="8", score=0.8),
)


async def run(feed: Sequence[StoredRecord]) -> Outputs:
    desk = Desk()
    await desk.take_all(feed, group_records=3)
    return stored(desk.published)


def stored(published: Mapping[Output, Sequence[Message]]) -> Outputs:
    """Messages as records of topics named after their output."""
    return {
        output: [
            StoredRecord(
                topic=str(output),
                partition=0,
                offset=offset,
                timestamp=message.timestamp,
                key=message.key,
                value=message.value,
                headers=tuple(message.headers),
            )
            for offset, message in enumerate(messages)
        ]
        for output, messages in published.items()
    }


async def judged(outputs_of: Callable[[Outputs], object], terms: Terms = ONCE) -> Report:
    """What is found once `outputs_of` has spoilt the outputs of FEED."""
    outputs = await run(records(*FEED))
    outputs_of(outputs)
    return audit(records(*FEED), outputs, RULES, terms)


async def test_all_is_well_where_all_is_well() -> None:
    report = await judged(lambda _: None)
    assert report.ok, report.differences
    assert (report.records, report.repeats.total(), report.unproven) == (len(FEED), 0, 0)
    assert report.outcomes == {
        Output.CLEANED: 4,
        Output.QUARANTINED: 2,
        Output.DEAD_LETTERS: 3,
        DUPLICATES: 1,
    }


async def test_alerts_that_hide_their_users_are_known_to_who_holds_the_key() -> None:
    names = Pseudonyms(b"a key of 32 characters or more..")
    feed = records(*FEED)
    desk = Desk(policies=Policies(WINDOWS, ALERTS, names, hide_users=True))
    await desk.take_all(feed, group_records=3)
    outputs = stored(desk.published)
    assert len(outputs[Output.ALERTS]) == 2
    holder = audit(feed, outputs, msgspec.structs.replace(RULES, pseudonyms=names), ONCE)
    assert holder.ok, holder.differences
    assert audit(feed, outputs, RULES, ONCE).kinds == {"no input": 2}
    outputs[Output.QUARANTINED].clear()
    holder = audit(feed, outputs, msgspec.structs.replace(RULES, pseudonyms=names), ONCE)
    assert holder.kinds == {"lost": 2, "no input": 2}


@pytest.mark.parametrize("output", [Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS])
async def test_a_missing_output_is_a_lost_record(output: Output) -> None:
    report = await judged(lambda found: found[output].pop(0))
    assert report.kinds["lost"] == 1
    assert not report.ok


@pytest.mark.parametrize(
    "output", [Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS, Output.ALERTS]
)
async def test_an_output_twice_is_doubled_or_counted(output: Output) -> None:
    def again(found: Outputs) -> None:
        found[output].append(found[output][0])

    strict = await judged(again)
    assert strict.kinds == {"doubled": 1}
    loose = await judged(again, Terms())
    assert loose.ok
    assert loose.repeats == {output: 1}


async def test_an_output_that_no_record_gave_is_found() -> None:
    for output in (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS):
        report = await judged(lambda found, o=output: found[o].append(record(b"?", offset=99)))  # type: ignore[misc]
        assert report.kinds == {"no input": 1}


async def test_a_changed_byte_is_found() -> None:
    def spoil(found: Outputs) -> None:
        for output in (Output.CLEANED, Output.DEAD_LETTERS):
            first = found[output][0]
            found[output][0] = msgspec.structs.replace(first, value=(first.value or b"") + b" ")

    report = await judged(spoil)
    assert report.kinds == {"no input": 1, "lost": 1, "altered": 1}


async def test_two_outcomes_of_one_record_are_found() -> None:
    report = await judged(lambda found: found[Output.CLEANED].append(found[Output.QUARANTINED][1]))
    assert report.kinds == {"two outcomes": 1}


async def test_the_order_of_a_user_is_watched_and_that_between_users_is_not() -> None:
    report = await judged(lambda found: found[Output.CLEANED].reverse())
    assert report.kinds == {"out of order": 2}  # a: 7, 1; b: 4, 3
    swapped = await judged(
        lambda found: found[Output.CLEANED].insert(0, found[Output.CLEANED].pop(1))
    )
    assert swapped.ok


async def test_a_duplicate_that_is_published_is_undue_unless_redis_forgot() -> None:
    feed = records(*FEED, click("a", at_ms=9, event_id="1", item_id="other"))
    outputs = await run(feed)
    first = outputs[Output.CLEANED][0]
    outputs[Output.CLEANED].append(
        msgspec.structs.replace(first, value=feed[-1].value, offset=first.offset + 50)
    )
    assert audit(feed, outputs, RULES, ONCE).kinds == {"undue": 1}
    forgiving = audit(feed, outputs, RULES, Terms(exactly_once=True, forgotten=True))
    assert (forgiving.ok, forgiving.forgotten) == (True, 1)


async def test_a_wrong_reason_is_found() -> None:
    def rename(found: Outputs) -> None:
        letter = found[Output.DEAD_LETTERS][0]
        headers = tuple((n, b"late" if n == "reason" else v) for n, v in letter.headers)
        found[Output.DEAD_LETTERS][0] = msgspec.structs.replace(letter, headers=headers)

    assert (await judged(rename)).kinds == {"wrong reason": 1}


async def test_an_alert_needs_its_quarantined_event() -> None:
    def forge(found: Outputs) -> None:
        alert = found[Output.ALERTS][0]
        body = msgspec.json.decode(alert.value or b"")
        for event_id in ("1", "none"):  # cleaned; unknown
            value = msgspec.json.encode(body | {"id": event_id})
            found[Output.ALERTS].append(msgspec.structs.replace(alert, value=value))

    assert (await judged(forge)).kinds == {"no input": 2}


async def test_a_range_is_judged_by_what_came_before_it() -> None:
    feed = records(*FEED)
    outputs = await run(feed)
    report = audit(feed, outputs, RULES, ONCE, {0: range(4, 7)})
    assert report.ok
    assert (report.records, report.outcomes[DUPLICATES]) == (3, 1)
    # Without what came before, the output of the first copy is taken for the second one's.
    cut = Terms(exactly_once=True, begins=False)
    late = audit(feed[4:], outputs, RULES, cut, {0: range(4, 7)})
    assert (late.ok, late.outcomes[DUPLICATES]) == (True, 0)


async def test_what_may_repeat_an_older_event_is_unproven() -> None:
    feed = records(*FEED)
    outputs = await run(feed)
    del outputs[Output.QUARANTINED][0]
    report = audit(feed[4:], outputs, RULES, Terms(exactly_once=True, begins=False))
    assert (report.ok, report.unproven) == (True, 1)


async def test_records_that_agree_in_everything_are_counted_together() -> None:
    feed = records(*[click("a", at_ms=1)] * 3)
    outputs = await run(feed)
    assert audit(feed, outputs, RULES, ONCE).ok
    outputs[Output.CLEANED].pop()
    assert audit(feed, outputs, RULES, ONCE).kinds == {"lost": 1}


@st.composite
def feeds(draw: st.DrawFn) -> list[Act | bytes]:
    """Three users, ids that repeat, times that step back, junk."""

    def one(n: int) -> Act | bytes:
        if draw(st.integers(0, 9)) == 0:
            return draw(st.sampled_from([b"junk", b"{}", b"\xff"]))
        at_ms = n * 5000 - draw(st.sampled_from([0, 0, 0, 4000, 90_000]))
        event_id = str(draw(st.integers(0, n)))
        scores: list[float | str] = [0.1, 0.1, 0.9, "poison"]
        score = draw(st.sampled_from(scores))
        return click(draw(st.sampled_from("abc")), at_ms=at_ms, event_id=event_id, score=score)

    return [one(n) for n in range(draw(st.integers(1, 30)))]


@settings(max_examples=60, deadline=None)
@given(feeds(), st.data())
async def test_no_output_can_go_or_come_unseen(
    feed: list[Act | bytes], data: st.DataObject
) -> None:
    inputs = records(*feed)
    outputs = await run(inputs)
    assert audit(inputs, outputs, RULES, ONCE).ok
    for spoilt in spoilings(outputs, data):
        assert not audit(inputs, spoilt, RULES, ONCE).ok


def spoilings(outputs: Outputs, data: st.DataObject) -> Iterator[Outputs]:
    """The outputs with one of them gone, and with one of them twice."""
    kinds = [o for o in (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS) if outputs.get(o)]
    if not kinds:
        return
    kind = data.draw(st.sampled_from(kinds))
    at = data.draw(st.integers(0, len(outputs[kind]) - 1))
    own = outputs[kind]
    yield {**outputs, kind: own[:at] + own[at + 1 :]}
    yield {**outputs, kind: [*own, own[at]]}
