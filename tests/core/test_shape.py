"""Depth and fields of JSON, against what a reader of all of it counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_app.core.decode import decode
from stream_app.core.shape import MAX_DEPTH, MAX_FIELDS, SLIGHT, excess
from tests.builders import START_MS, TASKS, click, records

tricky = st.text(st.sampled_from('{}[]:,"\\ aé'), max_size=6)
values = st.recursive(
    st.none() | st.integers() | tricky,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(
        (depth_of(v) for v in (value.values() if isinstance(value, dict) else value)), default=0
    )


def fields_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    own = len(value) if isinstance(value, dict) else 0
    return own + sum(fields_of(v) for v in (value.values() if isinstance(value, dict) else value))


@given(
    values, st.integers(0, MAX_DEPTH + 2), st.sampled_from([0, 0, MAX_FIELDS - 3, MAX_FIELDS + 1])
)
@example("[" * 500, 0, 0)
@example({'":{': ["\\"] * 200}, 2, 0)
def test_it_is_what_one_counts_who_reads_all_of_it(value: Any, deeper: int, more: int) -> None:
    for _ in range(deeper):
        value = [value]
    if more:
        value = {"v": value, **{str(n): n for n in range(more)}}
    found = excess(json.dumps(value, ensure_ascii=False).encode())
    if depth_of(value) > MAX_DEPTH:
        assert found is not None
        assert found[0] == "too-deep"
        assert found[1].startswith(f"{depth_of(value)} levels")
    elif fields_of(value) > MAX_FIELDS:
        assert found is not None
        assert found[0] == "too-many-fields"
        assert found[1].startswith(f"{fields_of(value)} fields")
    else:
        assert found is None


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        ("[" * 127 + "]" * 127, None),  # within the event's own braces
        ("[" * 128 + "]" * 128, "too-deep"),
        ("[" + ",".join(["{}"] * 50_000) + "]", None),
        ("{" + ",".join(f'"{n}":0' for n in range(4092)) + "}", None),
        ("{" + ",".join(f'"{n}":0' for n in range(4093)) + "}", "too-many-fields"),
        ("{" + ",".join(['"":0'] * 4093) + "}", "too-many-fields"),
    ],
)
@pytest.mark.parametrize("when", [START_MS, "2023-11-14T22:13:20Z"])
def test_an_unknown_field_is_passed_on_up_to_the_limits(
    unknown: str, reason: str | None, when: int | str
) -> None:
    event = json.dumps({"user_id": "u", "type": "click", "event_time": when})
    group = records(f'{event[:-1]},"x":{unknown}}}'.encode(), click("u", at_ms=0))
    decoded = decode(group, TASKS)
    assert [r.reason for r in decoded.rejected] == ([reason] if reason else [])
    assert len(decoded.events) == (1 if reason else 2)


def test_what_is_slight_is_within_every_limit() -> None:
    assert excess(b"[" * (SLIGHT // 2) + b"]" * (SLIGHT // 2)) is None
    assert SLIGHT < MAX_FIELDS
