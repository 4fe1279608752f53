"""`shopsentry explain`: what it shows, and what it says to wrong use."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset
from models.explain.explanation import Explanation, explain
from models.explain.labels import plain
from models.explain.lookup import look_up
from models.explain.page import page
from models.training import TrainReport
from stream_app import cli
from stream_app.core.event import Event
from stream_app.core.messages import ALERT_TYPE, AlertData, CloudEvent, WindowSummary, rfc3339
from stream_app.core.score import Floats
from tests.models.conftest import Files

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def scores(dataset: Dataset, bundle: Bundle) -> Floats:
    return bundles.score(bundle, dataset.windows, dataset.task)


@pytest.fixture(scope="module")
def event(dataset: Dataset, scores: Floats) -> int:
    """The bots' event that scores highest among those with a long window."""
    return int(np.argmax(np.where(dataset.windows.length > 8, scores, 0)))


@pytest.fixture
def run(
    files: Files,
    trained: TrainReport,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    def call(*arguments: str, width: int = 100) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit) as ended:
            cli.main(
                ["explain", "--in", str(files.data), "--model", str(trained.folder), *arguments]
            )
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


def alert_of(dataset: Dataset, event: int, score: float, model: str) -> CloudEvent:
    row = dataset.windows.rows[dataset.row[event]]
    return CloudEvent(
        id=dataset.event_ids[event],
        type=ALERT_TYPE,
        subject=dataset.users[dataset.user[event]],
        time=rfc3339(int(row["at_ms"])),
        data=msgspec.convert(
            {
                "user_id": dataset.users[dataset.user[event]],
                "task": "click",
                "event_id": dataset.event_ids[event],
                "event_type": "click",
                "event_time": int(row["at_ms"]),
                "score": score,
                "threshold": 0.5,
                "surprise": 1.0,
                "log_likelihood": -9.0,
                "model": model,
                "reasons": [],
                "window": WindowSummary(9, 8.0),
                "suppressed": 0,
            },
            AlertData,
            from_attributes=True,
        ),
    )


def test_the_table_fits_the_terminal_and_is_plain_in_a_pipe(
    run: Run, dataset: Dataset, scores: Floats, event: int
) -> None:
    shown = {}
    for width in (80, 120):
        code, told, _ = run("--event", dataset.event_ids[event], width=width)
        assert code == 0
        assert max(map(len, told.splitlines())) <= width
        assert "\x1b" not in told
        assert f"click score {scores[event]:.3f}" in told
        assert dataset.users[dataset.user[event]] in told
        shown[width] = told.count("\N{MINUS SIGN}") + told.count("+")
    assert shown[120] > shown[80]  # more room, more events


def test_the_score_is_the_streams_and_the_reasons_are_the_alerts(
    run: Run, dataset: Dataset, bundle: Bundle, scores: Floats, event: int
) -> None:
    code, told, _ = run("--event", dataset.event_ids[event], "--json")
    found = json.loads(told)
    assert code == 0
    assert found["score"] == pytest.approx(scores[event], abs=1e-5)
    assert len(found["acts"]) == dataset.windows.length[event]
    assert found["model"] == bundle.version
    assert found["rise"] is None
    strongest = found["reasons"][0]
    (field,) = [f for f in found["fields"] if f["name"] == strongest["field"]]
    assert field["cells"][strongest["events_back"]]["share"] == pytest.approx(
        strongest["share"], abs=1e-3
    )


def test_deep_adds_up(run: Run, dataset: Dataset, event: int) -> None:
    code, told, _ = run("--event", dataset.event_ids[event], "--deep")
    assert code == 0
    assert "integrated gradients" in told
    assert re.search(r"sum to \+\d", told)


def test_history_fills_the_window(
    run: Run, files: Files, dataset: Dataset, event: int, tmp_path: Path
) -> None:
    lines = files.data.read_bytes().splitlines(keepends=True)
    half = next(
        at for at, line in enumerate(lines) if f'"{dataset.event_ids[event]}"'.encode() in line
    )
    (tmp_path / "old.jsonl").write_bytes(b"".join(lines[:half]))
    (tmp_path / "new.jsonl").write_bytes(b"".join(lines[half:]))
    name = dataset.event_ids[event]
    whole = json.loads(run("--event", name, "--json")[1])
    new, old = str(tmp_path / "new.jsonl"), str(tmp_path / "old.jsonl")
    parted = json.loads(run("--in", new, "--history", old, "--event", name, "--json")[1])
    assert parted == whole
    alone = json.loads(run("--in", new, "--event", name, "--json")[1])
    assert len(alone["acts"]) == 1


def test_an_alert_is_found_again(
    run: Run,
    dataset: Dataset,
    bundle: Bundle,
    scores: Floats,
    event: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "alert.json"
    right = msgspec.json.encode(alert_of(dataset, event, float(scores[event]), bundle.version))
    path.write_bytes(right)
    code, told, notes = run("--alert", str(path))
    assert (code, notes) == (0, "")
    assert dataset.event_ids[event] in told
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(right)))
    assert run("--alert", "-")[1] == told
    path.write_bytes(msgspec.json.encode(alert_of(dataset, event, 0.123, bundle.version)))
    assert "has the score 0.123" in run("--alert", str(path))[2]
    path.write_bytes(msgspec.json.encode(alert_of(dataset, event, 0.5, "other-1")))
    assert "made by other-1" in run("--alert", str(path))[2]


class Cells(HTMLParser):
    """Counts cells; fails on anything that a self-contained page cannot have."""

    count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += tag == "td" and any("background" in (value or "") for _, value in attrs)
        assert tag not in ("script", "link", "img")
        assert not any(name in ("src", "href") for name, _ in attrs)


def test_pictures_are_written(run: Run, dataset: Dataset, event: int, tmp_path: Path) -> None:
    png, html = tmp_path / "why.png", tmp_path / "why.html"
    code, _, _ = run("--event", dataset.event_ids[event], "--png", str(png), "--html", str(html))
    assert code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    reader = Cells()
    reader.feed(html.read_text("utf-8"))
    found = json.loads(run("--event", dataset.event_ids[event], "--json")[1])
    assert reader.count == len(found["acts"]) * len(found["fields"])


def test_what_users_write_stays_text(bundle: Bundle, dataset: Dataset, event: int) -> None:
    evil = "<script>\x1b[31m$x$"
    known = {dataset.event_ids[event]: Event(user_id="u", type="click", at_ms=1, item_id=evil[:20])}
    found = explain(bundle, dataset, event, known)
    assert "<script>" not in page(found)
    assert "\x1b" not in page(found)
    assert plain(evil) == "<script>\N{REPLACEMENT CHARACTER}[31m$x$"


def test_each_event_is_told_in_its_own_words(
    files: Files, dataset: Dataset, bundle: Bundle, event: int
) -> None:
    user, tasks = dataset.users[dataset.user[event]], bundle.schema.tasks
    places = np.flatnonzero(dataset.user == dataset.user[event]).tolist()
    own = {dataset.event_ids[at] for at in places}
    found = look_up([files.data], user, own, tasks)
    assert set(found) == own
    assert all(e.user_id == user and e.item_id for e in found.values())
    assert look_up([files.data], "nobody", own, tasks) == {}


def test_an_event_without_a_past_can_be_explained(bundle: Bundle, dataset: Dataset) -> None:
    first = int(np.flatnonzero(dataset.windows.length == 1)[0])
    found: Explanation = explain(bundle, dataset, first, {}, "path")
    assert len(found.acts) == 1
    assert found.adds_up


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "say which event"),
        (["--event", "1", "--alert", "a.json"], "say which event"),
        (["--event", "nobody"], "event nobody is not among the"),
        (["--event", "1", "--in", "nix.jsonl"], "nix.jsonl is no file"),
        (["--event", "1", "--history", "nix.jsonl"], "nix.jsonl is no file"),
        (["--alert", "nix.json"], "nix.json cannot be read"),
        (["--event", "1", "--model", "nix"], "no model bundle at nix: no such folder"),
    ],
)
def test_wrong_use_is_told_in_a_line(run: Run, arguments: list[str], complaint: str) -> None:
    code, told, error = run(*arguments)
    assert code in (1, 2)
    assert complaint in error
    assert error.count("\n") == 1
    assert told == ""


def test_a_file_that_is_no_alert_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "alert.json"
    path.write_text("{}\n{}\n")
    assert "is 2 lines; --alert takes one" in run("--alert", str(path))[2]
    path.write_text('{"id": 1}')
    assert "is no alert" in run("--alert", str(path))[2]


def test_pictures_never_go_over_what_is_read(
    run: Run, files: Files, dataset: Dataset, event: int, tmp_path: Path
) -> None:
    name = dataset.event_ids[event]
    before = files.data.read_bytes()
    assert run("--event", name, "--html", str(files.data))[0] == 2
    assert files.data.read_bytes() == before
    for option in ("--png", "--html"):
        code, _, error = run("--event", name, option, str(tmp_path / "no" / "folder"))
        assert (code, "cannot be written" in error) == (2, True)
