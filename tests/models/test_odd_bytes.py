"""Files that are no text are refused like those that are no JSON: msgspec tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.dataset import read_labels
from models.evaluate.leak import _events
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
    with pytest.raises(Misconfigured, match="line 1 of the labels"):
        read_labels([odd])
    with pytest.raises(Misconfigured, match="line 1 of the labels"):
        _labels([odd])


def test_scores_that_are_no_text_are_refused(odd: Path) -> None:
    with pytest.raises(Misconfigured, match="no output of"):
        _lines(odd)


def test_an_event_that_is_no_text_tells_nothing_of_leaks(odd: Path) -> None:
    assert list(_events([odd])) == []
