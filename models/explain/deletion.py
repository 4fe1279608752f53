"""Do the strongest cells matter: take them away, and see how far the score falls.

    cells     the k first cells of an order are set to what is typical; the rest stays
    events    the k first earlier events of an order leave the window; every count is derived anew

An explanation is faithful if the score falls further by its order than by a random one, and hardly
by its own reversed. Pure but for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models.explain.attribution import AT, Method, attribute, by_cell, raw_scores
from models.features import columns
from models.inference import run
from models.network import Network
from models.packing import left_aligned
from stream_app.core.window import Ints, Windows

Floats64 = NDArray[np.float64]
Orders = Sequence[Ints]  # for each window, its cells (event * cells + cell) or events, first first

_AT_ONCE = 128  # altered windows in one pass


class Weights(Struct, frozen=True):
    """What speaks for an anomaly, by cell, in raw score."""

    tables: Sequence[Floats64]  # for each window (events, cells), oldest event first
    rise: Floats64  # (windows,) see `Attributed`
    off: Floats64  # (windows,)


def weigh(
    network: Network,
    windows: Windows,
    tasks: Ints,
    device: torch.device,
    method: Method = "gradient",
    at: float = AT,
) -> Weights:
    """The table of each window."""
    tables: list[Floats64] = [np.zeros((0, 0))] * len(windows)
    rise, off = np.zeros(len(windows)), np.zeros(len(windows))
    for found in attribute(network, windows, tasks, device, method, at):
        shares = by_cell(network, found.by_input).double().cpu().numpy()
        rise[found.of.windows], off[found.of.windows] = found.rise, found.off
        for line, window in enumerate(found.of.windows.tolist()):
            tables[window] = shares[line, : int(found.of.lengths[line])]
    return Weights(tables, rise, off)


def without_cells(
    network: Network,
    windows: Windows,
    tasks: Ints,
    device: torch.device,
    orders: Orders,
    counts: Sequence[int],
) -> Floats64:
    """(windows, counts) raw scores with the first so many cells of each order made typical."""
    cells, of_input = network.cells()
    of_input = of_input.to(device)
    rows = columns(network.schema, windows.rows).to(device)
    found = np.zeros((len(windows), len(counts)))
    chunk = max(1, _AT_ONCE // len(counts))
    for begin in range(0, len(windows), chunk):
        some = np.arange(begin, min(begin + chunk, len(windows)))
        length = windows.length[some]
        width = int(length.max())
        index = torch.from_numpy(left_aligned(windows, some, width)).to(device)
        window = rows.gather(index)
        gone = np.zeros((len(some), len(counts), width * len(cells)), bool)
        for at, which in enumerate(some.tolist()):
            for step, count in enumerate(counts):
                gone[at, step, orders[which][:count]] = True
        lost = torch.from_numpy(gone.reshape(-1, width, len(cells))).to(device)[:, :, of_input]
        with torch.no_grad():
            inputs = network.inputs(window, network.describe(window))
            inputs = torch.where(
                lost, network.typical, inputs.repeat_interleave(len(counts), dim=0)
            )
            raw = raw_scores(
                network,
                inputs,
                torch.from_numpy(length).to(device).repeat_interleave(len(counts)),
                torch.from_numpy(tasks[some]).to(device).repeat_interleave(len(counts)),
            )
        found[some] = raw.double().cpu().numpy().reshape(len(some), len(counts))
    return found


def without_events(
    network: Network,
    windows: Windows,
    tasks: Ints,
    device: torch.device,
    orders: Orders,
    counts: Sequence[int],
) -> Floats64:
    """(windows, counts) raw scores with the first so many earlier events of each order gone."""
    found = np.zeros((len(windows), len(counts)))
    for step, count in enumerate(counts):
        shorter = shortened(windows, [order[:count] for order in orders])
        logits = run(network, shorter, device).logits
        found[:, step] = logits[np.arange(len(windows)), tasks]
    return found


def strongest(tables: Sequence[Floats64]) -> list[Ints]:
    """Cells by what they add, the most first."""
    return [np.argsort(-table, axis=None, kind="stable") for table in tables]


def strongest_events(tables: Sequence[Floats64]) -> list[Ints]:
    """Earlier events by what their cells add together, the most first."""
    return [np.argsort(-table[:-1].sum(1), kind="stable") for table in tables]


def shuffled(orders: Orders, rng: np.random.Generator) -> list[Ints]:
    return [rng.permutation(order) for order in orders]


def interval(
    values: Floats64, groups: Ints, rng: np.random.Generator, draws: int = 1000
) -> tuple[float, float, float]:
    """Mean, and 95 % of the means over `groups` (campaigns, users) drawn with replacement."""
    return estimate(values[:, None], groups, rng, lambda m: float(m[0]), draws)


def estimate(
    values: Floats64,
    groups: Ints,
    rng: np.random.Generator,
    of: Callable[[Floats64], float],
    draws: int = 1000,
) -> tuple[float, float, float]:
    """`of` the means of the columns of `values`, and its 95 % when `groups` are drawn again."""
    _, place = np.unique(groups, return_inverse=True)
    size = np.bincount(place).astype(float)
    total = np.stack([np.bincount(place, column) for column in values.T], 1)
    drawn = rng.integers(0, len(size), (draws, len(size)))
    means = total[drawn].sum(1) / size[drawn].sum(1)[:, None]
    low, high = np.quantile([of(m) for m in means], [0.025, 0.975])
    return of(values.mean(0)), float(low), float(high)


def shortened(windows: Windows, gone: Sequence[Ints]) -> Windows:
    """The windows without some of their events, given by place from the oldest."""
    index, length = windows.index.copy(), windows.length.copy()
    size = index.shape[1]
    for at, places in enumerate(gone):
        own = index[at, size - length[at] :]
        kept = np.delete(own, places)
        length[at] = len(kept)
        index[at, size - len(kept) :] = kept
    return Windows(windows.rows, index, length)
