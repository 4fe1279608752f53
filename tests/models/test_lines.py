"""Parquet or JSON lines: the events are the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from models import lines
from models.dataset import read
from models.schema import Schema
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy
from tests.models.conftest import START_MS

ROWS = [
    {"event_id": "a", "user_id": "u", "type": "click", "event_time": START_MS, "price": 1.5},
    {
        "event_id": "b",
        "user_id": "u",
        "type": "cart",
        "event_time": START_MS + 1,
        "attributes": {"brand": 'of "note"', "stars": 4.5},
    },
]
LABELS = [{"event_id": "b", "label": 1, "attack": "scraping"}]


def as_json(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n\n".join(map(json.dumps, rows)))
    return path


def as_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    told = [
        {k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()} for row in rows
    ]
    names = {name: None for row in rows for name in row}
    table = pa.table({name: [row.get(name) for row in told] for name in names})
    pyarrow.parquet.write_table(table, path)
    return path


def test_a_row_is_a_line_without_what_is_missing(tmp_path: Path) -> None:
    files = [as_json(tmp_path / "a.jsonl", ROWS), as_parquet(tmp_path / "a.parquet", ROWS)]
    assert [json.loads(line) for line in lines.read(files)] == ROWS * 2


@pytest.mark.parametrize(("write", "name"), [(as_json, "a.jsonl"), (as_parquet, "a.parquet")])
def test_it_is_told_how_much_is_read(
    tmp_path: Path, write: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_ROWS", 2)
    heard: list[float] = []
    assert len(list(lines.read([write(tmp_path / name, ROWS * 3)], heard.append))) == 6
    assert len(heard) > 2
    assert heard == sorted(heard)
    assert 0 < heard[0] < heard[-1] <= 1


def test_a_dataset_is_the_same_from_either(tmp_path: Path, shop: Schema) -> None:
    made = [
        read(
            [write(tmp_path / f"a{ending}", ROWS)],
            [write(tmp_path / f"labels{ending}", LABELS)],
            shop,
            WindowPolicy(),
        )
        for write, ending in ((as_json, ".jsonl"), (as_parquet, ".parquet"))
    ]
    for one in made:
        assert one.event_ids == ["a", "b"]
        assert one.of("family") == ["", "scraping"]
        assert one.put_aside == 0
    assert made[0].windows.rows.tobytes() == made[1].windows.rows.tobytes()


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.parquet", "broken.parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(Misconfigured, match=name):
        list(lines.read([tmp_path / name]))
