"""Files become contract events; bad rows are told apart and harm no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured
from stream_app.core.event import Tasks
from stream_app.core.layout import Format, format_of
from stream_app.core.record import StoredRecord
from stream_app.edges.feeds import Fed, Reject, by_time, read
from stream_app.edges.sender import Pacer
from tests.servers import ROOT

REAL = ROOT.parent / "shared" / "data"
TASKS = Tasks(
    ("browse", "click", "purchase"),
    {"browse": 0, "edit": 0, "favourite": 1, "cart": 2, "purchase": 2},
)
TAOBAO = b"""1,10,20,pv,1511544070
2,11,21,buy,1511544060
1,12,20,fav,1511544080
"""
HEADER = (
    b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
)
REES46 = (
    HEADER
    + b"""2019-10-01 00:00:00 UTC,view,44,210,,shiseido,35.79,541,72d7
2019-10-01 00:00:01 UTC,cart,45,211,a.b,,cheap,541,72d7
"""
)


def rows(path: Path, form: Format, **mapping: str) -> list[Fed | Reject]:
    return list(read(path, form, mapping))


def events(found: list[Fed | Reject]) -> list[dict[str, Any]]:
    return [json.loads(row.value) for row in found if isinstance(row, Fed)]


def file(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_taobao_rows_become_events(tmp_path: Path) -> None:
    found = rows(file(tmp_path, TAOBAO), Format.TAOBAO)
    first = events(found)[0]
    assert first.pop("event_id").startswith("1-")
    assert first == {
        "user_id": "1",
        "type": "browse",
        "event_time": 1511544070000,
        "item_id": "10",
        "category_id": "20",
    }
    assert [e["type"] for e in events(found)] == ["browse", "purchase", "favourite"]
    assert found == rows(file(tmp_path, TAOBAO), Format.TAOBAO)  # the same ids again


def test_rees46_rows_become_events_with_price_and_attributes(tmp_path: Path) -> None:
    found = rows(file(tmp_path, REES46), Format.REES46)
    first = events(found)[0]
    assert first["event_time"] == 1569888000000
    assert first["price"] == 35.79
    assert first["attributes"] == {"brand": "shiseido"}
    assert isinstance(found[1], Reject)
    assert found[1].reason == "price is no number: 'cheap'"


def test_bad_rows_are_told_apart_and_strange_times_are_sent(tmp_path: Path) -> None:
    content = b"1,1,1,pv,soon\n1,1,1\n\xff,1,1,pv,1\n1,1,1,stare,1\n,1,1,pv,1\n2,1,1,pv,-7\n"
    found = rows(file(tmp_path, content), Format.TAOBAO)
    assert [e["event_time"] for e in events(found)] == ["soon", -7000]
    reasons = sorted(row.reason for row in found if isinstance(row, Reject))
    assert reasons[0] == "3 columns instead of 5"
    assert reasons[1] == "no user"
    assert reasons[2].startswith("not UTF-8")
    assert reasons[3] == "unknown type 'stare'"


def test_json_lines_go_on_byte_for_byte(tmp_path: Path) -> None:
    plain = b'{ "user_id":"u", "type":"browse", "event_time":"2026-01-01T00:00:00Z", "x":1 }'
    cloud = b'{"specversion":"1.0","data":{"user_id":"v","type":"click","event_time":5}}'
    found = rows(file(tmp_path, plain + b"\n\n" + cloud + b"\n{oops\n"), Format.JSONL)
    assert found[0] == Fed(b"u", plain, 1767225600000)
    assert found[1] == Fed(b"v", cloud, 5000)
    assert isinstance(found[2], Reject)
    assert found[2].row == 4


def test_columns_are_mapped_and_parquet_keeps_its_times(tmp_path: Path) -> None:
    path = tmp_path / "shop.parquet"
    table = pa.table(
        {
            "who": ["u", "v"],
            "type": ["click", "click"],
            "at": pa.array([1, 2], pa.timestamp("ms")),
            "colour": ["red", None],
        }
    )
    pyarrow.parquet.write_table(table, path)
    mapping = {"user_id": "who", "event_time": "at", "attributes.colour": "colour"}
    found = events(list(read(path, format_of(path), mapping)))
    assert [e["event_time"] for e in found] == [1, 2]
    assert [e["attributes"] for e in found] == [{"colour": "red"}, {}]


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        ({}, "which column is user_id"),
        ({"user_id": "nix", "type": "a", "event_time": "b"}, "no column nix; there are a, b"),
        ({"usr": "a"}, "no field usr"),
    ],
)
def test_a_wrong_mapping_says_what_there_is(
    mapping: dict[str, str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=told):
        list(read(file(tmp_path, b"a,b\n1,2\n"), Format.CSV, mapping))


def test_sorting_over_files_equals_sorting_in_memory() -> None:
    times = [5, 3, 3, None, 9, 1, 7, 3]
    fed = [Fed(b"u", str(i).encode(), at) for i, at in enumerate(times)]
    in_memory = list(by_time(fed))
    assert [e.value for e in in_memory] == [b"3", b"5", b"1", b"2", b"7", b"0", b"6", b"4"]
    assert list(by_time(fed, run=2)) == in_memory
    assert list(by_time(fed, run=8)) == in_memory


def test_the_pace_follows_rate_or_event_time() -> None:
    steady = Pacer(10.0, None, 0.0)
    assert [steady.wait_s(None, 0.0) for _ in range(3)] == [0.0, 0.1, 0.2]
    paced = Pacer(None, 60.0, 100.0)
    assert [paced.wait_s(at, 100.0) for at in (0, 60_000, None)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "form", "count"),
    [
        ("taobao_split_a.csv", Format.TAOBAO, 48_510),
        ("rees46_2019-10-01_head.csv", Format.REES46, 17_434),
        ("wikipedia_valid_20.csv", Format.WIKIPEDIA, 31_495),
    ],
)
def test_real_files_become_events_that_the_worker_takes(
    name: str, form: Format, count: int
) -> None:
    if not (REAL / name).exists():
        pytest.skip(f"real data: no {name} beside the repository")
    found = rows(REAL / name, form)
    assert len(found) == count
    records = [
        StoredRecord(topic="t", partition=0, offset=i, timestamp=1 << 46, key=f.key, value=f.value)
        for i, f in enumerate(found)
        if isinstance(f, Fed)
    ]
    assert len(decode(records, TASKS).events) == count
