"""Records -> events or rejected: every way in which the bytes may be wrong."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.core.decode import AHEAD_MS, decode
from stream_app.core.event import MAX_TIME_MS, Event
from stream_app.core.record import Source
from tests.builders import START_MS, TASKS, Act, act, click, envelope, record, records, without

GOOD = click("u1", at_ms=0)


def text(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def raw(name: str, value: bytes) -> bytes:
    """The good event with one more field, written as it is."""
    return text()[:-1] + b', "%s": %s}' % (name.encode(), value)


def event_of(value: Act | bytes, key: bytes | None = None, timestamp: int = START_MS) -> Event:
    decoded = decode([record(value, key=key, timestamp=timestamp)], TASKS)
    assert not decoded.rejected
    return decoded.events[0]


def reason(
    value: Act | bytes | None, key: bytes | None = None, timestamp: int = START_MS
) -> tuple[str, str]:
    decoded = decode([record(value, key=key, timestamp=timestamp)], TASKS)
    assert not decoded.events
    return decoded.rejected[0].reason, decoded.rejected[0].detail


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


BAD: dict[str, tuple[bytes | None, str]] = {
    "no value (a tombstone)": (None, "empty"),
    "empty value": (b"", "empty"),
    "blanks only": (b" \n", "not-json"),
    "not UTF-8": (raw("query", b'"\xff"'), "not-utf8"),
    "not UTF-8 in an unknown field": (raw("blob", b'"\xff"'), "not-utf8"),
    "not UTF-8 in an unknown name": (text()[:-1] + b', "\xff": 1}', "not-utf8"),
    "UTF-8 with an overlong NUL": (raw("query", b'"\xc0\x80"'), "not-utf8"),
    "a surrogate in UTF-8": (raw("query", b'"\xed\xa0\x80"'), "not-utf8"),
    "Latin-1": ('{"user_id": "Jürgen"}'.encode("latin-1"), "not-utf8"),
    "UTF-16": (text().decode().encode("utf-16"), "not-utf8"),
    "gzip": (gzip.compress(text()), "not-utf8"),
    "not JSON": (b"<click/>", "not-json"),
    "cut off": (text()[:-1], "not-json"),
    "two events": (text() + text(), "not-json"),
    "two lines": (text() + b"\n" + text(), "not-json"),
    "a byte order mark": (b"\xef\xbb\xbf" + text(), "not-json"),
    "a raw control character": (raw("query", b'"a\x01b"'), "not-json"),
    "a lone surrogate": (raw("query", rb'"\ud800"'), "not-json"),
    "a lone low surrogate": (raw("item_id", rb'"\udc00 "'), "not-json"),
    "a lone surrogate in an unknown field": (raw("blob", rb'"\ud800"'), "not-json"),
    "NaN": (raw("price", b"NaN"), "not-json"),
    "infinity": (raw("price", b"Infinity"), "not-json"),
    "a price beyond all numbers": (raw("price", b"1e999"), "invalid"),
    "an attribute beyond all numbers": (raw("attributes", b'{"a": 1e999}'), "invalid"),
    "null": (b"null", "invalid"),
    "a number": (b"1", "invalid"),
    "a list of events": (b"[" + text() + b"]", "invalid"),
    "a bare deep array": (nested(100_000), "invalid"),
    "a deep unknown field": (raw("blob", nested(100_000)), "too-deep"),
    "deep attributes": (raw("attributes", b'{"a": ' + nested(100_000) + b"}"), "too-deep"),
    "a deep unknown field and a text time": (
        text(event_time="2023-11-14T22:13:20Z")[:-1] + b', "blob": ' + nested(100_000) + b"}",
        "too-deep",
    ),
    "no user": (json.dumps(without(GOOD, "user_id")).encode(), "invalid"),
    "no type": (json.dumps(without(GOOD, "type")).encode(), "invalid"),
    "no time": (json.dumps(without(GOOD, "event_time")).encode(), "invalid"),
    "an empty user id": (text(user_id=""), "invalid"),
    "a long user id": (text(user_id="x" * 257), "invalid"),
    "an empty event id": (text(event_id=""), "invalid"),
    "a long event id": (text(event_id="x" * 129), "invalid"),
    "a query of 10 MB": (text(query="x" * (10 << 20)), "invalid"),
    "a negative price": (text(price=-0.01), "invalid"),
    "a negative position": (text(position=-1), "invalid"),
    "a quantity of zero": (text(quantity=0), "invalid"),
    "an unknown type": (text(type="teleport"), "invalid"),
    "a negative time": (text(event_time=-1), "invalid"),
    "a time past the largest": (text(event_time=MAX_TIME_MS + 1), "invalid"),
    "a time past 64 bits": (text(event_time=10**30), "invalid"),
    "a text time without zone": (text(event_time="2023-11-14T22:13:20"), "invalid"),
    "a date": (text(event_time="2023-11-14"), "invalid"),
    "a text time before the epoch": (text(event_time="1969-12-31T23:59:59Z"), "invalid"),
    "the first text time": (text(event_time="0001-01-01T00:00:00+14:00"), "invalid"),
    "the last text time": (text(event_time="9999-12-31T23:59:59-14:00"), "invalid"),
    "a text time and a bad price": (text(event_time="2023-11-14T22:13:20Z", price=-1), "invalid"),
    "an envelope without data": (b'{"specversion": "1.0", "id": "1"}', "invalid"),
    "an envelope around nonsense": (json.dumps(envelope({"user_id": 1})).encode(), "invalid"),
    "an envelope in an envelope": (json.dumps(envelope(envelope(GOOD))).encode(), "invalid"),
}

WRONG_TYPES: dict[str, list[Any]] = {
    "user_id": [1, None, ["u1"], {}],
    "type": [1, None, ["click"]],
    "event_time": [None, True, 1.5, float(START_MS), "soon", [], {}],
    "event_id": [1, []],
    "item_id": [7, []],
    "category_id": [7, {}],
    "session_id": [7, True],
    "query": [7, ["a"]],
    "position": ["1", 1.5, True],
    "price": ["1", True, []],
    "quantity": ["1", 1.5],
    "attributes": [[], "a", 1, {"a": True}, {"a": []}, {"a": {}}],
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_rejected_with_its_reason_and_its_neighbours_are_not(case: str) -> None:
    value, expected = BAD[case]
    group = records(click("u1", at_ms=0), value, click("u2", at_ms=0))
    decoded = decode(group, TASKS)
    assert [r.reason for r in decoded.rejected] == [expected]
    assert decoded.rejected[0].record is group[1]
    assert decoded.rejected[0].detail
    assert [e.user_id for e in decoded.events] == ["u1", "u2"]
    assert list(decoded.records) == [group[0], group[2]]


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, values in WRONG_TYPES.items() for value in values]
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    why, detail = reason(text(**{field: value}))
    assert (why, f"$.{field}" in detail) == ("invalid", True)


def test_events_and_rejected_keep_the_order_of_their_records() -> None:
    group = records(*(b"bad" if n % 3 else click("u", at_ms=n) for n in range(30)))
    decoded = decode(group, TASKS)
    assert [r.offset for r in decoded.records] == list(range(0, 30, 3))
    assert [e.at_ms - START_MS for e in decoded.events] == list(range(0, 30, 3))
    assert [r.record.offset for r in decoded.rejected] == [n for n in range(30) if n % 3]


def test_every_field_of_the_contract_arrives() -> None:
    fields: dict[str, Any] = {
        "event_id": "e1",
        "item_id": "i1",
        "category_id": "c1",
        "session_id": "s1",
        "query": "red shoes",
        "position": 0,
        "price": 9,
        "quantity": 1,
        "attributes": {"a": "x", "b": 1.5, "c": None},
    }
    event = event_of(text(**fields))
    assert {name: getattr(event, name) for name in fields} == fields
    assert (event.user_id, event.type, event.at_ms) == ("u1", "click", START_MS)


def test_absent_and_null_fields_are_the_same() -> None:
    optional = without(dict.fromkeys(WRONG_TYPES), "user_id", "type", "event_time")
    assert event_of(text(**optional)) == event_of(text())


# -- time


def test_an_event_may_be_five_minutes_ahead_of_its_record_and_no_more() -> None:
    assert event_of(text(), timestamp=START_MS - AHEAD_MS).at_ms == START_MS
    why, detail = reason(text(), timestamp=START_MS - AHEAD_MS - 1)
    assert (why, detail) == ("future", "300 s ahead of the record's time")


def test_an_absurd_time_is_ahead_whatever_its_form() -> None:
    assert reason(text(event_time=MAX_TIME_MS))[0] == "future"
    assert reason(text(event_time="6000-01-01T00:00:00Z"))[0] == "future"


@pytest.mark.parametrize("event_time", [0, "1970-01-01T00:00:00Z"])
def test_the_far_past_is_accepted(event_time: int | str) -> None:
    assert event_of(text(event_time=event_time)).at_ms == 0


@pytest.mark.parametrize(
    ("event_time", "at_ms"),
    [
        ("2023-11-14T22:13:20Z", START_MS),
        ("2023-11-14T22:13:20.001z", START_MS + 1),
        ("2023-11-15T00:13:20.500+02:00", START_MS + 500),
        ("2023-11-14T14:13:20-08:00", START_MS),
    ],
)
def test_a_text_time_with_its_zone_is_that_moment(event_time: str, at_ms: int) -> None:
    assert event_of(text(event_time=event_time)).at_ms == at_ms
    assert event_of(envelope({**GOOD, "event_time": event_time})).at_ms == at_ms


@pytest.mark.parametrize("unknown", [b"1e999", b"1" + b"0" * 5000, b"[1, {}, null]", b'"\\u0000"'])
def test_unknown_fields_do_not_matter_whatever_the_form_of_the_time(unknown: bytes) -> None:
    plain = raw("blob", unknown)
    assert event_of(plain) == event_of(text())
    assert event_of(plain.replace(b"%d" % START_MS, b'"2023-11-14T22:13:20Z"')) == event_of(text())


# -- ids and keys


def test_a_missing_event_id_is_made_from_the_record() -> None:
    source = Source("shop.events", 3)
    decoded = decode([record(GOOD, offset=17, source=source)], TASKS)
    assert decoded.events[0].event_id == "shop.events-3-17"
    assert event_of(text(event_id=None)).event_id == "shop.events-0-0"
    assert event_of(text(event_id="mine")).event_id == "mine"


def test_the_key_is_the_user_id_or_absent() -> None:
    user = "Käufer 1"
    assert event_of(text(user_id=user), key=user.encode()).user_id == user
    assert event_of(text(user_id=user), key=None).user_id == user
    for key in (b"", b"u2", user.encode("latin-1"), user.upper().encode()):
        assert reason(text(user_id=user), key=key)[0] == "key-mismatch"


@pytest.mark.parametrize("user", ["a\0b", "\x01\x7f\x1b[0m", "👩‍👧", "\u202eevil", " ", "x" * 256])
def test_strange_characters_in_ids_are_kept(user: str) -> None:
    event = event_of(text(user_id=user, item_id=user), key=user.encode())
    assert (event.user_id, event.item_id) == (user, user)
    unescaped = json.dumps({**GOOD, "query": "👩‍👧"}, ensure_ascii=False).encode()
    assert event_of(unescaped).query == "👩‍👧"


# -- shapes


def test_a_record_of_a_megabyte_is_accepted_if_the_fields_we_know_are_short() -> None:
    assert event_of(text(blob="x" * (1 << 20))) == event_of(text())


def test_of_a_repeated_name_the_last_counts() -> None:
    assert event_of(raw("user_id", b'"u2"')).user_id == "u2"


def test_blanks_around_an_event_do_not_matter() -> None:
    assert event_of(b" \r\n" + text() + b"\n") == event_of(text())


def test_an_envelope_holds_the_same_event() -> None:
    assert event_of(envelope(GOOD)) == event_of(GOOD)
    assert event_of(envelope({**GOOD, "event_id": "e9"})).event_id == "e9"


def test_the_key_and_the_time_of_an_enveloped_event_are_checked_too() -> None:
    assert reason(envelope(GOOD), key=b"u2")[0] == "key-mismatch"
    assert reason(envelope(click("u1", at_ms=AHEAD_MS + 1)))[0] == "future"
    assert reason(envelope(act("teleport", "u1", 0)))[0] == "invalid"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
almost = st.dictionaries(st.sampled_from([*WRONG_TYPES, "data", "specversion"]), values).map(
    lambda fields: json.dumps({**GOOD, **fields}).encode()
)


@given(st.lists(st.binary(max_size=64) | almost | st.none() | st.just(text()), max_size=8))
@example([b"\x00", b'{"user_id":', b'"', b"{}", b"1e999", nested(100_000)])
def test_whatever_comes_each_record_is_an_event_or_rejected_and_nothing_is_raised(
    of: list[bytes | None],
) -> None:
    group = records(*of)
    decoded = decode(group, TASKS)
    kept, dropped = list(decoded.records), [r.record for r in decoded.rejected]
    assert len(kept) == len(decoded.events)
    assert sorted([*kept, *dropped], key=lambda r: r.offset) == group
    assert kept == sorted(kept, key=lambda r: r.offset)
    assert dropped == sorted(dropped, key=lambda r: r.offset)
    good = [r.offset for r in group if r.value == text()]
    assert set(good) <= {r.offset for r in kept}
