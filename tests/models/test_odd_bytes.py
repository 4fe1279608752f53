"""Files that are no text are refused like those that are no JSON: msgspec tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.dataset import read_labels
from models.evaluate.leak import _events
from models.lines import read as lines_of
from models.prepare.run import _labels
from stream_app.commands.audit import _lines
from stream_app.core.errors import Misconfigured

NO_TEXT = b'{"event_id": "\xa3\xff", "label": 1}\n'


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(NO_TEXT)
    return path


def test_labels_that_are_no_text_are_refused(odd: Path) -> None:
    for reading in (read_labels, _labels):
        with pytest.raises(Misconfigured, match=rf"line 1 of {odd} is no label"):
            reading([odd])


def test_the_line_that_is_no_label_is_named_with_its_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    label = '{"event_id": "a", "label": 1}\n'
    good.write_text(label * 3)
    bad.write_text(f"{label}\n{label}{{}}\n")  # the second line is blank
    for reading in (read_labels, _labels):
        with pytest.raises(Misconfigured, match=rf"line 4 of {bad} is no label"):
            reading([good, bad])


def test_scores_that_are_no_text_are_refused(odd: Path) -> None:
    with pytest.raises(Misconfigured, match="no output of"):
        _lines(odd)


def test_an_event_that_is_no_text_tells_nothing_of_leaks(odd: Path) -> None:
    assert list(_events(lines_of([odd]))) == []
