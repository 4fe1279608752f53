"""Why a window looks anomalous: the cells of its field x event table that say so, in words.

Gradient times (input - typical input), of the task's score, in one backward pass over the batch. A
cell gathers what a person would call one thing. Says what the model saw, not what the user meant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.features import Number, columns
from models.inference import TOKENS, mixed_precision
from models.network import Network, Statistics
from models.packing import Pass, passes
from stream_app.core.score import Reason
from stream_app.core.window import Ints, Windows

AT_MOST: Final = 3
LOOKED_AT: Final = 12  # strongest cells, of which the unusual ones come first

Array = NDArray[np.floating[Any]]


class Explainer:
    """Reasons by one network. `statistics` says what is usual."""

    def __init__(self, network: Network, statistics: Statistics, device: torch.device) -> None:
        self._network, self._statistics, self._device = network, statistics, device
        self._cells, of_input = network.cells()
        self._of_input = of_input.numpy()
        self._gather = torch.nn.functional.one_hot(of_input, len(self._cells)).float().to(device)
        codes = np.repeat(np.arange(len(network.numbers)), network.bins)
        before = np.full(network.raw_width, -1)
        self._number_of_input = np.concatenate([before, codes, np.arange(len(network.numbers))])
        categories = {f.title: f"{f.name} seen" for f in network.schema.of_kind("category")}
        names = [n.name for n in network.numbers]
        self._seen = {title: names.index(name) for title, name in categories.items()}

    def explain(self, windows: Windows, tasks: Sequence[int]) -> list[tuple[Reason, ...]]:
        """For each window its most telling cells: unusual ones first, then by strength."""
        found: list[tuple[Reason, ...]] = [()] * len(windows)
        task = np.asarray(tasks, np.int64)
        for one in passes(windows, TOKENS[self._device.type], shared=False):
            described, weights = self._weigh(windows, task[one.windows], one)
            shares = (weights @ self._gather).float().cpu().numpy()
            for at, window in enumerate(one.windows):
                length = int(one.lengths[at])
                rows = windows.rows[one.index[at, :length]]
                values = described[at, :length].float().cpu().numpy()
                by_input = weights[at, :length]
                found[int(window)] = self._strongest(shares[at, :length], values, by_input, rows)
        return found

    def _weigh(self, windows: Windows, tasks: Ints, one: Pass) -> tuple[Tensor, Tensor]:
        """What was described of each event, and (windows, events, inputs) what speaks for it."""
        network, device = self._network, self._device
        rows = columns(network.schema, windows.rows).to(device)
        window = rows.gather(torch.from_numpy(one.index).to(device))
        lengths = torch.from_numpy(one.lengths).to(device)
        line = torch.arange(len(tasks), device=device)
        described = network.describe(window)
        with torch.enable_grad(), mixed_precision(device):
            inputs = network.inputs(window, described).detach().requires_grad_()
            tokens, own = network.embed(inputs)
            states = network.encode(tokens, lengths)
            scored = network.logits(states[line, lengths - 1], own[line, lengths - 1])
            total = scored[line, torch.from_numpy(tasks).to(device)].sum()
            (gradient,) = torch.autograd.grad(total, inputs)
        return described, (gradient * (inputs - network.typical)).detach()

    def _strongest(
        self, shares: Array, values: Array, by_input: Tensor, rows: NDArray[np.void]
    ) -> tuple[Reason, ...]:
        """`shares` (events, cells) of one window.

        A number within its usual range may weigh much, in its context; but it convinces nobody. So
        of the strongest cells those outside theirs come first.
        """
        speaks_for = np.maximum(np.nan_to_num(shares), 0)
        total = float(speaks_for.sum())
        if total <= 0:
            return ()
        table = speaks_for[::-1] / total  # newest first: of equals, the newest counts
        order = np.argsort(-table.round(6), axis=None, kind="stable")[:LOOKED_AT]
        unusual: list[Reason] = []
        usual: list[Reason] = []
        for flat in order:
            back, cell = divmod(int(flat), len(self._cells))
            share = float(table[back, cell])
            if share <= 0:
                break
            place = len(rows) - 1 - back
            inputs = by_input[place].float().cpu().numpy()
            observed, expected, odd = self._words(cell, values[place], inputs, rows[place])
            reason = Reason(self._cells[cell], back, observed, expected, round(share, 4))
            (unusual if odd else usual).append(reason)
        return (*unusual, *usual)[:AT_MOST]

    def _words(
        self, cell: int, values: Array, by_input: Array, row: np.void
    ) -> tuple[str, str, bool]:
        """Observed, expected, and whether the one is outside the other."""
        name = self._cells[cell]
        if name == "type":
            return self._network.schema.type_names[int(row["type"]) - 1], self._usual_types(), False
        if name in self._seen:
            low, high = self._statistics.expected[self._seen[name]]
            seen = float(values[self._seen[name]])
            told = "none" if math.isnan(seen) else f"seen {seen:.0f}\N{MULTIPLICATION SIGN} before"
            expected = _range(f"{low:.0f}", f"{high:.0f}", "\N{MULTIPLICATION SIGN}")
            return told, expected, seen < low or seen > high
        numbers = self._number_of_input
        inside = [n for n in np.unique(numbers[self._of_input == cell]) if n >= 0]
        strongest = max(inside, key=lambda n: float(by_input[numbers == n].sum()))
        number = self._network.numbers[strongest]
        low, high = self._statistics.expected[strongest]
        value = float(values[strongest])
        expected = _range(aloud(number, low), aloud(number, high))
        return aloud(number, value), expected, value < low or value > high

    def _usual_types(self) -> str:
        order = np.argsort([-share for share in self._statistics.type_shares], kind="stable")
        return "mostly " + ", ".join(self._network.schema.type_names[i] for i in order[:2])


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
        case "ratio":
            return f"\N{MULTIPLICATION SIGN}{math.exp(min(value, 700)):.3g}"
        case _:
            return f"{value:.0f}"


def duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def _range(low: str, high: str, unit: str = "") -> str:
    return (low if low == high else f"{low} \N{EN DASH} {high}") + unit
