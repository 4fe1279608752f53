"""Logs of every format, with dirt of every kind, become parts whose counts add up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from models import schema as schemas
from models.dataset import read
from models.prepare import run, stage
from models.prepare.behaviour import look
from models.prepare.card import Card
from models.prepare.checks import BIT, CHECKS
from models.prepare.config import PrepareConfig
from models.prepare.parts import Part
from models.prepare.run import prepare
from models.simulate.shop import SimulationConfig, write
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format
from stream_app.core.window import WindowPolicy
from tests.models.conftest import START_MS
from tests.servers import ROOT

REAL = ROOT.parent / "shared" / "data"
FILES = [part.file for part in Part]
Row = dict[str, Any]


def event(number: int, user: str = "u", **fields: Any) -> Row:
    """The `number`th event, some uneven seconds after the one before."""
    at_ms = START_MS + number * 7_000 + number * number * 37 % 97_000
    made = {"event_id": f"e{number}", "user_id": user, "type": "click", "event_time": at_ms}
    return {**made, "item_id": f"i{number % 7}", **fields}


def shop(users: int = 20, each: int = 12) -> list[Row]:
    return [event(n, f"u{n % users}") for n in range(users * each)]


def lines(path: Path, rows: Sequence[Row | str]) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def prepared(data: Path, out: Path, **options: Any) -> Card:
    return prepare(PrepareConfig(data=(data,), out=out, **options))


def kept(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(out / file) for file in FILES])


def dropped_for(card: Card) -> dict[str, int]:
    return {line.name: line.dropped for line in card.report.checks if line.dropped}


def hits(card: Card) -> dict[str, int]:
    return {line.name: line.hits for line in card.report.checks if line.hits}


DIRT: dict[str, list[Row | str]] = {
    "unreadable": ["no json", '{"user_id": "u"', "[1]", '{"user_id": "a"},{"user_id": "b"}'],
    "no-user": [event(900, ""), {"event_id": "x", "type": "click", "event_time": START_MS}],
    "no-type": [event(901, type=None)],
    "unknown-type": [event(902, type="dance")],
    "no-time": [event(903, event_time=None)],
    "bad-time": [event(904, event_time="soon"), event(905, event_time=-5)],
    "too-long": [event(906, item_id="i" * 257)],
    "far-time": [event(907, event_time=0), event(908, event_time="2099-01-01T00:00:00Z")],
    "bad-price": [event(909, price=-1), event(910, price="cheap")],
    "bad-position": [event(911, position=1.5)],
    "bad-quantity": [event(912, quantity=0)],
    "bad-attributes": [event(913, attributes={"deep": {}})],
    "bad-label": [event(914, label=2)],
    "repeated-id": [event(5, "u5")],  # as it stands in `shop`
    "repeated-row": [{**event(7, "u7"), "event_id": "another"}],
    "same-second": [event(920 + n, "burst", event_time=START_MS + n) for n in range(6)],
    "regular-pace": [event(930 + n, "timer", event_time=START_MS + n * 5000) for n in range(14)],
    "few-events": [event(915, "stranger")],
}


def test_there_is_dirt_of_every_kind() -> None:
    assert set(DIRT) == {check.name for check in CHECKS} == set(BIT)


@pytest.mark.parametrize("name", DIRT)
def test_each_kind_of_dirt_is_found_and_counted(name: str, tmp_path: Path) -> None:
    check = CHECKS[BIT[name].bit_length() - 1]
    count = len(DIRT[name])
    card = prepared(lines(tmp_path / "a.jsonl", [*shop(), *DIRT[name]]), tmp_path / "out")
    assert hits(card)[name] == count
    assert card.report.read == len(shop()) + count
    if check.drop:
        assert dropped_for(card) == {name: count}
        assert pl.read_parquet(tmp_path / "out/dropped.parquet")["dropped_for"].to_list() == (
            [name] * count
        )
    else:
        assert dropped_for(card) == {}
        flagged = kept(tmp_path / "out").filter(pl.col("flags").str.contains(name))
        assert len(flagged) == count


@pytest.mark.parametrize("name", [check.name for check in CHECKS if not check.always])
def test_what_may_be_kept_can_be_dropped_or_flagged(name: str, tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [*shop(), *DIRT[name]])
    dropping = prepared(data, tmp_path / "dropping", drop=(name,))
    flagging = prepared(data, tmp_path / "flagging", flag=(name,))
    assert dropped_for(dropping) == {name: len(DIRT[name])}
    assert flagging.report.kept == flagging.report.read
    events = read([tmp_path / "flagging" / f for f in FILES], [], schemas.load("shop"), LOOSE)
    assert len(events) + events.put_aside == flagging.report.kept


LOOSE = WindowPolicy(lateness_ms=1 << 46)
ROWS = st.one_of(
    st.sampled_from([row for rows in DIRT.values() for row in rows]),
    st.builds(
        event,
        st.integers(0, 40),
        st.sampled_from(["u1", "u2", "u3"]),
        price=st.sampled_from([None, 1, -1, "x"]),
        label=st.sampled_from([None, 0, 1, 7]),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROWS, max_size=40),
    drop=st.sets(st.sampled_from(sorted(BIT))),
    piece=st.sampled_from([3, 1000]),
)
def test_every_row_is_kept_or_dropped_once(
    rows: list[Row | str],
    drop: set[str],
    piece: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "ROWS", piece)
        patch.setattr(run, "AT_ONCE", piece)
        data = lines(folder / "a.jsonl", [*shop(4, 5), *rows])
        card = prepared(data, folder / "out", drop=tuple(drop))
    report, out = card.report, folder / "out"
    assert report.read == 20 + len(rows)
    assert report.read == report.kept + sum(line.dropped for line in report.checks)
    left, gone = kept(out), pl.read_parquet(out / "dropped.parquet")
    assert len(left) == report.kept == sum(p.events for p in card.parts.values())
    assert Counter(gone["dropped_for"].to_list()) == dropped_for(card)
    assert len(left.filter(pl.col("flags").is_not_null())) == report.flagged
    told = [json.loads(r).get("event_id") if isinstance(r, str) and r[-1] == "}" and "," not in r
            else r["event_id"] if isinstance(r, dict) else None for r in rows]  # fmt: skip
    ids = Counter([*left["event_id"].to_list(), *gone["event_id"].to_list()])
    assert all(ids[name] >= count for name, count in Counter(told).items() if name)


def test_all_formats_give_the_same_events(tmp_path: Path) -> None:
    rows = [{**e, "price": 1.5 * n, "position": n} for n, e in enumerate(shop())]
    frame = pl.DataFrame(rows)
    frame.write_ndjson(tmp_path / "a.jsonl")
    frame.write_csv(tmp_path / "a.csv")
    dated = pl.col("event_time").cast(pl.Datetime("ms", "UTC"))
    frame.with_columns(dated).write_parquet(tmp_path / "a.parquet")
    frame.rename({"user_id": "who", "event_time": "when"}).with_columns(
        (pl.col("when") / 1000).alias("when"), pl.lit("hit").alias("type")
    ).write_csv(tmp_path / "own.csv")
    own = {"columns": {"user_id": "who", "event_time": "when"}, "types": {"hit": "click"}}
    for name, options in {"a.jsonl": {}, "a.csv": {}, "a.parquet": {}, "own.csv": own}.items():
        prepared(tmp_path / name, tmp_path / f"out-{name}", **options)
    want = kept(tmp_path / "out-a.jsonl")
    assert len(want) == len(rows)
    for name in ("a.csv", "a.parquet", "own.csv"):
        assert kept(tmp_path / f"out-{name}").equals(want), name


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [*shop(), *(row for rows in DIRT.values() for row in rows)])
    for out in ("one", "two"):
        prepared(data, tmp_path / out)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("order", ["file", "time"])
def test_a_file_is_gone_through_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    rows = [*shop(40, 25), *(row for rows in DIRT.values() for row in rows)]
    data = lines(tmp_path / "a.jsonl", rows)
    prepared(data, tmp_path / "whole", order=order)
    sizes = []

    def watched(rows: pl.DataFrame, *arguments: Any) -> Any:
        sizes.append(len(rows))
        return look(rows, *arguments)

    monkeypatch.setattr(stage, "ROWS", 100)
    monkeypatch.setattr(run, "AT_ONCE", 100)
    monkeypatch.setattr(run, "look", watched)
    prepared(data, tmp_path / "pieces", order=order)
    assert len(sizes) > 10
    assert max(sizes) < 300  # users fall into pieces by their hash
    for file in [*FILES, "dropped.parquet", "vocabulary.parquet"]:
        one, other = (pl.read_parquet(tmp_path / out / file) for out in ("whole", "pieces"))
        assert one.equals(other), file
    for out in ("whole", "pieces"):
        times = pl.read_parquet(tmp_path / out / "train.parquet")["event_time"]
        assert times.is_sorted() == (order == "time")


def test_files_that_lie_by_user_are_sorted_by_time_unless_told(tmp_path: Path) -> None:
    rows = sorted((event(n * 100, f"u{n % 30}") for n in range(600)), key=lambda e: e["user_id"])
    data = lines(tmp_path / "a.jsonl", rows)
    assert prepared(data, tmp_path / "auto").order == "time"
    assert prepared(data, tmp_path / "file", order="file").order == "file"
    assert kept(tmp_path / "auto").height == kept(tmp_path / "file").height
    ids = pl.read_parquet(tmp_path / "file/train.parquet")["event_id"].to_list()
    assert ids == [r["event_id"] for r in rows if r["event_id"] in set(ids)]


def test_labels_follow_their_events_and_fit_the_dataset(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [{**e, "label": int(e["user_id"] == "u4")} for e in shop()])
    card = prepared(data, tmp_path / "out", held_out=0.2)
    for part in Part:
        own = read(
            [tmp_path / "out" / part.file],
            [tmp_path / "out" / part.labels],
            schemas.load("shop"),
            LOOSE,
        )
        facts = card.parts[part.name.lower()]
        assert len(own) == facts.events == facts.labelled
        assert int(own.anomalous.sum()) == facts.anomalous
        assert {own.users[own.user[at]] for at in own.anomalous.nonzero()[0]} <= {"u4"}
    assert sum(part.anomalous for part in card.parts.values()) == sum(
        e["user_id"] == "u4" for e in shop()
    )


def test_a_simulated_shop_keeps_its_campaigns_together(tmp_path: Path) -> None:
    write(
        SimulationConfig(seed=3, events=6000, span_ms=86_400_000, attack_share=0.1),
        tmp_path / "events.jsonl",
        tmp_path / "labels.jsonl",
    )
    card = prepared(
        tmp_path / "events.jsonl", tmp_path / "out", labels=(tmp_path / "labels.jsonl",)
    )
    assert card.campaign_users > 0
    where: dict[str, set[str]] = {}
    for part in (Part.TRAIN, Part.VALID, Part.TEST):
        labels = pl.read_parquet(tmp_path / "out" / part.labels)
        odd = labels.filter((pl.col("label") == 1) | pl.col("look_alike").is_not_null())
        for campaign in odd["campaign"].drop_nulls().unique():
            where.setdefault(campaign, set()).add(part.name)
    assert len(where) > 5
    assert {len(parts) for parts in where.values()} == {1}


def test_ctrl_c_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [*shop()])
    before = prepared(data, tmp_path / "out")

    def pressed(step: str, share: float) -> None:
        if step == "writing":
            raise KeyboardInterrupt

    config = PrepareConfig(data=(data,), out=tmp_path / "out", force=True, seed=8)
    with pytest.raises(KeyboardInterrupt):
        prepare(config, pressed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out"]
    assert (
        json.loads((tmp_path / "out/card.json").read_bytes())["options"]["seed"]
        == (before.options["seed"])
    )
    assert prepare(config).options["seed"] == 8


def test_ctrl_c_while_polars_writes_leaves_nothing(tmp_path: Path) -> None:
    """It raises KeyboardInterrupt twice: polars does, and then Python."""
    data = lines(tmp_path / "a.jsonl", shop(50, 4000))
    program = (
        "import os, signal, sys; from pathlib import Path; from models.prepare import reading, run;"
        "from models.prepare.config import PrepareConfig; whole = reading._text; seen = []\n"
        "def text(cells):\n"
        "    if not seen: seen.append(os.kill(os.getpid(), signal.SIGINT))\n"
        "    return whole(cells)\n"
        "reading._text = text; reading.BLOCK_BYTES = 1 << 16; data = Path(sys.argv[1])\n"
        "run.prepare(PrepareConfig(data=(data,), out=data.with_name('out')))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(data)], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": ("absent.csv",)}, "no file absent.csv"),
        ({"columns": {"colour": "c"}}, "no field colour"),
        ({"drop": ("dirt",)}, "no check dirt"),
        ({"drop": ("few-events",), "flag": ("few-events",)}, "either"),
        ({"flag": ("no-user",)}, "can be no events"),
        ({"valid": 0.5, "test": 0.5}, "left to train"),
        ({"schema": "wiki"}, "none of the 240 rows is left: 240 were dropped as unknown-type"),
        ({"form": Format.REES46}, "has no column"),
        ({"form": Format.PARQUET}, "cannot be read as parquet"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, options: Row, told: str) -> None:
    config: Row = {"data": (lines(tmp_path / "a.jsonl", [*shop()]),), "out": tmp_path / "out"}
    config |= {k: tuple(map(Path, v)) if k == "data" else v for k, v in options.items()}
    with pytest.raises(Misconfigured, match=told):
        prepare(PrepareConfig(**config))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_own_folder_is_written_over_only_by_force_a_foreign_one_never(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [*shop()])
    prepared(data, tmp_path / "out")
    with pytest.raises(Misconfigured, match="--force"):
        prepared(data, tmp_path / "out")
    prepared(data, tmp_path / "out", force=True)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/letter").write_text("dear")
    with pytest.raises(Misconfigured, match="not written by prepare"):
        prepared(data, tmp_path / "foreign", force=True)


def test_the_command_tells_counts_and_where_the_card_is(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", [*shop(), "oops"])
    out = tmp_path / "out"
    arguments = ["prepare", "--data", str(data), "--out", str(out), "--drop", "few-events"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "241 rows read, 240 kept, 1 dropped (1 unreadable)" in result.output
    assert "241 rows read = 240 kept + 1 dropped" in (out / "card.md").read_text()
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("name", "form", "schema", "dropped", "order"),
    [
        ("taobao_split_a.csv", Format.TAOBAO, "shop", 1, "time"),
        ("rees46_2019-10-01_head.csv", Format.REES46, "shop", 0, "file"),
        ("wikipedia_train_60.csv", Format.WIKIPEDIA, "wiki", 0, "file"),
    ],
)
def test_real_files_are_taken_whole(
    tmp_path: Path, name: str, form: Format, schema: str, dropped: int, order: str
) -> None:
    if not (REAL / name).exists():
        pytest.skip(f"real data: no {name} beside the repository")
    out = tmp_path / "out"
    card = prepared(REAL / name, out, form=form, schema=schema)
    assert card.report.read - card.report.kept == dropped
    assert card.order == order
    found = read([out / "train.parquet"], [], schemas.load(schema), LOOSE)
    assert len(found) == card.parts["train"].events
    assert found.put_aside == 0
