"""A table of text, and how figures are written in its cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from models.evaluate.report import Difference, Figure


class Table(Struct, frozen=True):
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def figure(one: Figure | None, digits: int = 3) -> str:
    """0.512 [0.470, 0.550]"""
    if one is None:
        return "–"
    if one.low is None or math.isnan(one.low):
        return number(one.value, digits)
    low, high = number(one.low, digits), number(one.high, digits)
    return f"{number(one.value, digits)} [{low}, {high}]"


def detail(told: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A figure among details, with its interval where there is one."""
    return figure(Figure(told[name], *told.get(f"{name}_interval", ())), digits)


def difference(one: Difference | Figure | None) -> str:
    """+0.051 [+0.020, +0.080] *, where the interval does not hold 0"""
    if one is None or math.isnan(one.value):
        return "–"
    if one.low is None or one.high is None or math.isnan(one.low):
        return f"{one.value:+.3f}"
    certain = " *" if one.low > 0 or one.high < 0 else ""
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{certain}"


def share(value: float | None) -> str:
    """0.0012 -> 0.12 %"""
    return "–" if value is None or math.isnan(value) else f"{value * 100:.3g} %"
