"""Lines of JSON all at once or one by one; CSV with broken rows at their places."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prepare import reading
from models.prepare.cleaning import staged
from models.prepare.json_lines import NO_ATTRIBUTES, decoded
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format, Layout

FIELDS = {"user_id": "who", "type": "type", "query": "query"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUE = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.booleans(), TEXT)
FLAT = st.dictionaries(TEXT, st.one_of(st.none(), st.integers(0, 99), TEXT), max_size=3)
EVENT = st.fixed_dictionaries(
    {},
    optional={"who": VALUE, "type": VALUE, "query": VALUE, "attributes": FLAT, "more": VALUE},
)
WRAPPED = EVENT.map(lambda event: {"specversion": "1.0", "type": "t", "data": event})


@given(st.lists(st.one_of(EVENT, WRAPPED), min_size=1, max_size=6))
def test_lines_at_once_are_as_one_by_one(events: list[dict[str, object]]) -> None:
    lines = [json.dumps(event, ensure_ascii=at % 2 == 0) for at, event in enumerate(events)]
    at_once = decoded(pl.Series(lines, dtype=pl.String), FIELDS)
    one_by_one = decoded(pl.Series([*lines, "no json"]), FIELDS)
    assert one_by_one["broken"].to_list() == [False] * len(lines) + [True]
    assert at_once.equals(one_by_one[:-1])
    for event, found in zip(events, at_once["attributes"], strict=True):
        told = event.get("data", event)
        assert isinstance(told, dict)
        assert (json.loads(found) if found else {}) == told.get("attributes", {})


@pytest.mark.parametrize(
    "lines",
    [
        ['{"who": "a"},{"who": "b"}', '{"who": "c"', '"type": "d"}'],
        ['{"who": "a"} {"who": "b"}', '{"who": "c"}'],
        ['{"more": [{}', "{}]}", '{"who": "a"},{"who": "b"}'],
        ["null", "3", '{"who": ["a"]}', '{"who": {}}'],
    ],
)
def test_no_line_is_taken_for_two_and_no_two_for_one(lines: list[str]) -> None:
    found = decoded(pl.Series(lines), FIELDS)
    assert len(found) == len(lines)
    for line, broken in zip(lines, found["broken"], strict=True):
        try:
            whole = isinstance(json.loads(line), dict) and "[" not in line and "{}" not in line
        except json.JSONDecodeError:
            whole = False
        assert broken != whole


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('{"a": 1, "b": "}", "c": null}', '{"a": 1, "b": "}", "c": null}'),
        ("{}", "{}"),
        ("null", None),
        ('{"a": true}', NO_ATTRIBUTES),
        ('{"a": {}}', NO_ATTRIBUTES),
        ("[1]", NO_ATTRIBUTES),
        ('"x"', NO_ATTRIBUTES),
    ],
)
def test_attributes_are_flat_or_none(text: str, want: str | None) -> None:
    found = decoded(pl.Series([f'{{"who": "u", "attributes": {text}, "query": "q"}}']), FIELDS)
    assert found["attributes"].to_list() == [want]


def test_a_query_that_looks_like_attributes_is_none() -> None:
    line = json.dumps({"who": "u", "query": '"attributes": {"a": 1}'})
    assert decoded(pl.Series([line]), FIELDS)["attributes"].to_list() == [None]


def test_broken_rows_of_a_table_stand_at_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 64)  # many blocks
    rows = [f"u{n},click,{n}".encode() for n in range(40)]
    bad = {
        0: b"too,few",
        7: b"one,more,than,three",
        8: b"again",
        20: b"\xff\xfe,click,20",
        39: b"x",
    }
    for at, row in bad.items():
        rows[at] = row
    path = tmp_path / "a.csv"
    path.write_bytes(b"\n".join([b"user_id,type,event_time", *rows]) + b"\n")
    layout = Layout(fields={f: f for f in ("user_id", "type", "event_time")})
    found = reading.rows(path, Format.CSV, layout, lambda share: None).collect()
    assert found["number"].to_list() == list(range(1, 41))
    assert set(found.filter(pl.col("broken").is_not_null())["number"] - 1) == set(bad)
    good = found.filter(pl.col("broken").is_null())
    assert all(f"u{n - 1}" == user for n, user in zip(good["number"], good["user_id"], strict=True))


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1511544070", 1511544070000),
        ("1511544070000", 1511544070000),
        ("1511544070.25", 1511544070250),
        ("2019-10-01 00:00:00 UTC", 1569888000000),
        ("2019-10-01T02:00:00.5+02:00", 1569888000500),
        ("2019-10-01T00:00:00Z", 1569888000000),
        ("2019-10-01 00:00:00", 1569888000000),
        ("2019-10-01", 1569888000000),
        ("-1", None),
        ("1e300", None),
        ("nan", None),
        ("2019-13-01", None),
        ("soon", None),
    ],
)
def test_times_of_every_form(text: str, at_ms: int | None) -> None:
    rows = pl.LazyFrame(
        {"number": [1], "broken": [None], "user_id": ["u"], "type": ["t"], "event_time": [text]},
        schema_overrides={"broken": pl.String},
    )
    layout = Layout(fields={})
    found = staged(rows, layout, ["t"], 0, "id", False).collect()
    assert found["event_time"].to_list() == [at_ms]
    assert found["was"].to_list() == ([None] if at_ms is not None else [f"event_time={text}"])
    assert found["event_id"].to_list() == ["id-1"]


def test_a_line_longer_than_a_block_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.prepare.config import PrepareConfig
    from models.prepare.run import prepare

    monkeypatch.setattr(reading, "BLOCK_BYTES", 64)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"user_id": "u" * 200}) + "\n" + "{}\n" * 50)
    with pytest.raises(Misconfigured, match=r"a\.jsonl cannot be read as jsonl"):
        prepare(PrepareConfig(data=(path,), out=tmp_path / "out"))
