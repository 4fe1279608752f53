"""A cell of the field x event table as a person would say it: observed, against expected.

Expected is where 5 to 95 % of normal events of training lay.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.features import Number
from models.network import Network, Statistics

_RARE: Final = 0.05  # of events: a type that is not expected
TIMES: Final = "\N{MULTIPLICATION SIGN}"

Array = NDArray[np.floating[Any]]


class Told(Struct, frozen=True):
    observed: str
    expected: str
    unusual: bool  # outside of what is expected


class Words:
    """Says cells of one network's inputs. `statistics` says what is usual."""

    def __init__(self, network: Network, statistics: Statistics) -> None:
        self._statistics = statistics
        self._type_names, self._numbers = network.schema.type_names, network.numbers
        cells, of_input = network.cells()
        self.cells = tuple(cells)
        self._of_input = of_input.numpy()
        codes = np.repeat(np.arange(len(self._numbers)), network.bins)
        before = np.full(network.raw_width, -1)
        self._number_of_input = np.concatenate([before, codes, np.arange(len(self._numbers))])
        categories = {f.title: f"{f.name} seen" for f in network.schema.of_kind("category")}
        names = [n.name for n in self._numbers]
        self._seen = {title: names.index(name) for title, name in categories.items()}

    def told(self, cell: int, values: Array, by_input: Array, row: np.void) -> Told:
        """`values` (numbers,) described of the event, `by_input` (inputs,) of its attribution."""
        name = self.cells[cell]
        if name == "type":
            kind = int(row["type"]) - 1
            rare = self._statistics.type_shares[kind] < _RARE
            return Told(self._type_names[kind], self._usual_types(), rare)
        if name in self._seen:
            low, high = self._statistics.expected[self._seen[name]]
            seen = float(values[self._seen[name]])
            observed = "none" if math.isnan(seen) else f"seen {seen:.0f}{TIMES} before"
            expected = _range(f"{low:.0f}", f"{high:.0f}", TIMES)
            return Told(observed, expected, seen < low or seen > high)
        numbers = self._number_of_input
        inside = [n for n in np.unique(numbers[self._of_input == cell]) if n >= 0]
        strongest = max(inside, key=lambda n: float(by_input[numbers == n].sum()))
        number = self._numbers[strongest]
        low, high = self._statistics.expected[strongest]
        value = float(values[strongest])
        expected = _range(aloud(number, low), aloud(number, high))
        return Told(aloud(number, value), expected, value < low or value > high)

    def _usual_types(self) -> str:
        order = np.argsort([-share for share in self._statistics.type_shares], kind="stable")
        return "mostly " + ", ".join(self._type_names[i] for i in order[:2])


def aloud(number: Number, value: float) -> str:
    """A number's value in words and units."""
    if math.isnan(value):
        return "none"
    match number.form:
        case "duration":
            return duration(math.expm1(min(value, 40)))
        case "share":
            return f"{100 * value:.0f} %"
        case "amount":
            return f"{math.copysign(math.expm1(min(abs(value), 700)), value):.2f}"
        case "counter":
            return f"{value:.3g}"
        case "ratio":
            ratio = math.exp(min(value, 700))
            return f"{TIMES}{ratio:.0f}" if 1000 <= ratio < 1e9 else f"{TIMES}{ratio:.3g}"
        case _:
            return f"{value:.0f}"


def duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _range(low: str, high: str, unit: str = "") -> str:
    return (low if low == high else f"{low} \N{EN DASH} {high}") + unit
