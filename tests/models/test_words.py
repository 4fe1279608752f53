from __future__ import annotations

import math

import pytest

from models.explain.words import aloud, duration
from models.features import Form, Number


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        ("duration", math.log1p(0.4), "0.4 s"),
        ("duration", math.log1p(540), "9 min"),
        ("count", 38.0, "38"),
        ("share", 0.451, "45 %"),
        ("amount", math.log1p(12.5), "12.50"),
        ("amount", -math.log1p(12.5), "-12.50"),
        ("ratio", math.log(2), "×2"),
        ("ratio", math.log(1934), "×1934"),
        ("ordinal", 3.0, "3"),
        ("count", math.nan, "none"),
    ],
)
def test_numbers_are_told_in_words_and_units(form: Form, value: float, words: str) -> None:
    assert aloud(Number("n", "n", form), value) == words


def test_durations_take_the_unit_that_fits() -> None:
    assert [duration(s) for s in (0, 59, 60, 5400, 172800)] == [
        "0 s", "59 s", "1 min", "1.5 h", "2 d",
    ]  # fmt: skip
