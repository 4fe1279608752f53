"""Why a window looks anomalous: the cells of its field x event table that say so, in words.

One backward pass over the batch (`explain.attribution`). A cell gathers what a person would call
one thing. Says what the model saw, not what the user meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.explain.attribution import attribute, by_cell
from models.explain.words import Words
from models.network import Network, Statistics
from stream_app.core.score import Reason
from stream_app.core.window import Windows

AT_MOST: Final = 3
LOOKED_AT: Final = 12  # strongest cells, of which the reasons are taken
UNUSUAL: Final = 2.0  # times its share that a cell outside of what is expected counts

Array = NDArray[np.floating[Any]]


class Explainer:
    """Reasons by one network. `statistics` says what is usual."""

    def __init__(self, network: Network, statistics: Statistics, device: torch.device) -> None:
        self._network, self._device = network, device
        self._words = Words(network, statistics)

    def explain(self, windows: Windows, tasks: Sequence[int]) -> list[tuple[Reason, ...]]:
        """For each window its most telling cells, the strongest first."""
        found: list[tuple[Reason, ...]] = [()] * len(windows)
        for some in attribute(self._network, windows, tasks, self._device):
            shares = by_cell(self._network, some.by_input).cpu().numpy()
            for at, window in enumerate(some.of.windows.tolist()):
                length = int(some.of.lengths[at])
                found[window] = strongest(
                    self._words,
                    shares[at, :length],
                    some.described[at, :length].float().cpu().numpy(),
                    some.by_input[at, :length].float().cpu().numpy(),
                    windows.rows[some.of.index[at, :length]],
                )
        return found


def strongest(
    words: Words, shares: Array, values: Array, by_input: Array, rows: NDArray[np.void]
) -> tuple[Reason, ...]:
    """The reasons of one window: `shares` (events, cells), `values` (events, numbers), `by_input`
    (events, inputs), oldest event first.

    A number within its usual range may weigh much, in its context; but it convinces hardly anybody.
    So a cell outside of its range counts twice.
    """
    speaks_for = np.maximum(np.nan_to_num(shares), 0)
    total = float(speaks_for.sum())
    if total <= 0:
        return ()
    table = speaks_for[::-1] / total  # newest first: of equals, the newest counts
    order = np.argsort(-table.round(6), axis=None, kind="stable")[:LOOKED_AT]
    found: list[tuple[float, Reason]] = []
    for flat in order:
        back, cell = divmod(int(flat), len(words.cells))
        share = float(table[back, cell])
        if share <= 0:
            break
        place = len(rows) - 1 - back
        told = words.told(cell, values[place], by_input[place], rows[place])
        reason = Reason(words.cells[cell], back, told.observed, told.expected, round(share, 4))
        found.append((share * (UNUSUAL if told.unusual else 1.0), reason))
    found.sort(key=lambda pair: -pair[0])
    return tuple(reason for _, reason in found[:AT_MOST])
