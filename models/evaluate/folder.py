"""An evaluation -> report.json, report.md and report.html in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from models.evaluate.page import html, markdown
from models.evaluate.plots import plots
from models.evaluate.run import Evaluation
from models.evaluate.tables import tables
from models.writing import check_folder, writing

JSON: Final = "report.json"
MARKDOWN: Final = "report.md"
PAGE: Final = "report.html"


def prepare(folder: Path) -> None:
    """Make the folder, before work that takes long. Raises Misconfigured."""
    check_folder(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write(folder: Path, evaluation: Evaluation) -> None:
    """The same evaluation gives the same bytes; a number that is not known is null.

    Raises Misconfigured if the folder cannot be written.
    """
    prepare(folder)
    found = tables(evaluation)
    told = msgspec.json.format(msgspec.json.encode(evaluation), indent=1)
    files = {
        JSON: told + b"\n",
        MARKDOWN: markdown(evaluation, found).encode(),
        PAGE: html(evaluation, found, plots(evaluation.report)).encode(),
    }
    for name, content in files.items():
        with writing(folder / name):
            (folder / name).write_bytes(content)
