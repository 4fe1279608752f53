"""Do explanations point at what was attacked? Two kinds of truth are known.

    whose event    in a hijacked account some earlier events are the attacker's, some the owner's:
                   the strongest earlier event should be the attacker's
    plants         one thing of an honest window is changed, as an attack would; a cell that the
                   change touched is a hit, any other a miss

Pure but for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models.features import columns
from models.network import Network
from models.packing import left_aligned
from models.schema import Schema
from stream_app.core.window import Ints, Rows, Windows

Flags = NDArray[np.bool_]
Floats64 = NDArray[np.float64]
Plant = Callable[[Rows, Schema, np.random.Generator], None]

LAST: Final = 8  # events that a plant changes


class Planted(Struct, frozen=True):
    """Windows and their changed twins, one for one."""

    before: Windows
    after: Windows
    touched: Sequence[Flags]  # for each window (events, cells): the plant changed it


def events_hit(weights: Sequence[Floats64], theirs: Sequence[Flags]) -> Floats64:
    """Whether the strongest earlier event is the attacker's. `weights` (earlier events,) each."""
    return np.array(
        [float(own[np.argmax(weight)]) for weight, own in zip(weights, theirs, strict=True)]
    )


def cells_hit(orders: Sequence[Ints], touched: Sequence[Flags], first: int) -> Floats64:
    """(windows,) share of the `first` cells of each order that were touched."""
    return np.array(
        [
            float(truth.reshape(-1)[order[:first]].mean()) if len(order) else 0.0
            for order, truth in zip(orders, touched, strict=True)
        ]
    )


def plant(
    network: Network, windows: Windows, kind: Plant, seed: int, device: torch.device
) -> Planted:
    """Change the last events of every window; each gets rows of its own."""
    rng = np.random.default_rng(seed)
    size, length = windows.index.shape[1], windows.length
    parts = [windows.rows[windows.index[at, size - n :]].copy() for at, n in enumerate(length)]
    changed = [part.copy() for part in parts]
    for rows in changed:
        kind(rows, network.schema, rng)
    start = np.cumsum([0, *length[:-1]])
    index = np.maximum(start[:, None] + np.arange(size) - (size - length[:, None]), 0)
    before = Windows(np.concatenate(parts), index, length)
    after = Windows(np.concatenate(changed), index, length)
    return Planted(before, after, _touched(network, before, after, device))


def _touched(
    network: Network, before: Windows, after: Windows, device: torch.device
) -> list[Flags]:
    """Cells with an input that is another one than before."""
    cells, of_input = network.cells()
    one, other = (_inputs(network, windows, device) for windows in (before, after))
    differs = ((one - other).abs() > 1e-6).cpu().numpy()
    found = np.zeros((*differs.shape[:2], len(cells)), bool)
    for cell in range(len(cells)):
        found[:, :, cell] = differs[:, :, of_input.numpy() == cell].any(2)
    return [found[at, :length] for at, length in enumerate(before.length.tolist())]


@torch.no_grad()
def _inputs(network: Network, windows: Windows, device: torch.device) -> torch.Tensor:
    index = left_aligned(windows, np.arange(len(windows)), int(windows.length.max()))
    rows = columns(network.schema, windows.rows).to(device)
    window = rows.gather(torch.from_numpy(index).to(device))
    return network.inputs(window, network.describe(window))


def clockwork(rows: Rows, schema: Schema, rng: np.random.Generator) -> None:
    """The last events come at equal intervals."""
    gaps = np.diff(rows["at_ms"][-LAST - 1 :])
    _retime(rows, np.full(LAST, max(int(np.median(gaps)), 1000)))


def haste(rows: Rows, schema: Schema, rng: np.random.Generator) -> None:
    """The last events come thirty times as fast."""
    _retime(rows, np.maximum(np.diff(rows["at_ms"][-LAST - 1 :]) // 30, 50))


def one_item(rows: Rows, schema: Schema, rng: np.random.Generator) -> None:
    """The last events are all about the scored event's item."""
    for name in _things(schema):
        rows[name][-LAST:] = rows[name][-1]


def strange_items(rows: Rows, schema: Schema, rng: np.random.Generator) -> None:
    """The last events are each about something that the user never saw."""
    for name in _things(schema):
        there = rows[name][-LAST:] != 0
        fresh = rng.integers(1, np.iinfo(rows[name].dtype).max, LAST)
        rows[name][-LAST:] = np.where(there, fresh, 0).astype(rows[name].dtype)


def buying(rows: Rows, schema: Schema, rng: np.random.Generator) -> None:
    """The last events are purchases."""
    rows["type"][-LAST:] = schema.type_names.index("purchase") + 1


PLANTS: Final[dict[str, Plant]] = {
    "equal gaps": clockwork,
    "gaps / 30": haste,
    "one item": one_item,
    "strange items": strange_items,
    "purchases": buying,
}


def _retime(rows: Rows, gaps: Ints) -> None:
    """Gaps before the last events; what came before keeps its own, and moves with them."""
    at_ms = rows["at_ms"].copy()
    moved = at_ms[-1] - np.cumsum(gaps[::-1])[::-1]  # times of the event before each gap
    rows["at_ms"][-LAST:-1] = moved[1:]
    rows["at_ms"][:-LAST] = at_ms[:-LAST] + (moved[0] - at_ms[-LAST - 1])


def _things(schema: Schema) -> list[str]:
    return [f.name for f in schema.of_kind("category") if f.source in ("item_id", "category_id")]
