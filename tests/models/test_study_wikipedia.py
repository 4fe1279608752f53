"""The study of bans runs on a small file of that form, and pairs what it compares."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "study" / "wikipedia.py"))


def write(path: Path, users: range, begin: int) -> None:
    """Honest users take their time over many pages; every fourth hurries over one: banned."""
    dice = random.Random(begin)
    edits = []
    for user in users:
        at, vandal, count = begin + dice.randrange(5000), user % 4 == 0, dice.randrange(4, 9)
        page = dice.randrange(20)
        for number in range(count):
            at += dice.randrange(1, 9) if vandal else dice.randrange(600, 9000)
            own = page if vandal else dice.randrange(40)
            edits.append((at, user, own, int(vandal and number == count - 1)))
    lines = [f"{user},{page},{at},{label}" for at, user, page, label in sorted(edits)]
    path.write_text("\n".join(["u,i,ts,label", *lines]) + "\n", "utf-8")


@pytest.mark.slow
def test_the_model_and_boosting_are_compared_on_the_later_file(
    study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train.csv", range(240), 1_000)
    write(tmp_path / "test.csv", range(240, 620), 200_000)
    asked = {
        "--train": tmp_path / "train.csv", "--test": tmp_path / "test.csv",
        "--work": tmp_path / "work", "--seeds": 1, "--trials": 1, "--members": "bert",
        "--epochs": 1, "--bootstrap": 20,
    }  # fmt: skip
    arguments = [str(part) for pair in asked.items() for part in pair]
    study["main"](arguments)
    said = capsys.readouterr().out
    assert ", 95 bans, 1 seeds" in said
    rows = [line.split(" | ")[0] for line in said.splitlines() if line.startswith("| ")]
    assert {"| the model", "| boosting, tuned", "| boosting, as usual"} < set(rows)
    assert "expected calibration error" in said


def test_a_budget_is_set_on_the_earlier_half_alone(study: dict[str, Any]) -> None:
    earlier, later = np.arange(2000) / 2000, np.ones(2000)
    anomalous = np.zeros(4000, bool)
    told = study["kept"](np.concatenate([earlier, later]), anomalous)
    assert told == 1.0
    assert study["kept"](np.concatenate([later, earlier * 0.5]), anomalous) == 0.0
