"""`shopsentry simulate`: other domains beside the shop."""

from __future__ import annotations

from pathlib import Path

import msgspec
from typer.testing import CliRunner

from stream_app.cli import app


def simulated(out: Path, *more: str) -> list[dict[str, object]]:
    told = CliRunner().invoke(app, ["simulate", "--out", str(out), "--events", "300", *more])
    assert told.exit_code == 0, told.output
    lines = (out / "events.jsonl").read_bytes().splitlines()
    assert len(lines) == len((out / "labels.jsonl").read_bytes().splitlines()) == 300
    return [msgspec.json.decode(line) for line in lines]


def test_a_bank_has_payments_where_a_shop_has_views(tmp_path: Path) -> None:
    bank = {event["type"] for event in simulated(tmp_path / "bank", "--domain", "finance")}
    shop = {event["type"] for event in simulated(tmp_path / "shop")}
    assert "payment" in bank - shop
    assert "browse" in shop - bank


def test_what_only_the_shop_can_is_refused_elsewhere(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["simulate", "--out", str(tmp_path), "--domain", "finance", "--late", "0.1"]
    )
    assert told.exit_code != 0
    assert "for the shop" in told.output
