"""A network's word in place of another's: the line that puts its raw scores on the other's scale.

Fitted without labels, so the bundle's calibration and thresholds go on meaning what they did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import structs

from models.calibration import Line
from models.fusion import Fusion
from models.members import Members
from models.network import Network
from models.second_look import SecondLook
from stream_app.core.score import Floats
from stream_app.core.window import Ints

_ENOUGH: Final = 50  # events of a task for a line of its own

Slope = tuple[float, float]  # slope, offset


def lines(before: Floats, after: Floats, tasks: Ints, count: int) -> tuple[Slope, ...]:
    """By task index, `after` -> `before` (events,): least squares; all tasks' where one has few."""
    together = _line(before, after)
    own = [tasks == task for task in range(count)]
    return tuple(
        _line(before[some], after[some]) if some.sum() >= _ENOUGH else together for some in own
    )


def replaced(
    members: Members,
    fusion: Fusion,
    networks: Mapping[str, Network],
    aligned: Mapping[str, tuple[Slope, ...]],
) -> tuple[Members, Fusion]:
    """With other networks of some names, whose raw scores are `aligned` first."""
    scales = {
        name: _after(aligned[name], some) if name in aligned else some
        for name, some in fusion.scales.items()
    }
    trees = {
        name: SecondLook(some.trees, _after(aligned[some.source], some.lines), some.source)
        if isinstance(some, SecondLook) and some.source in aligned
        else some
        for name, some in members.trees.items()
    }
    encoders = {name: networks.get(name, network) for name, network in members.encoders.items()}
    return Members(encoders, trees), structs.replace(fusion, scales=scales).without_tails()


def _line(before: Floats, after: Floats) -> Slope:
    x, y = after.astype(np.float64), before.astype(np.float64)
    spread = x.var()
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 1.0
    if slope <= 0:  # it learnt nothing of this task; its order must not be turned round
        return 1.0, 0.0
    return slope, float(y.mean() - slope * x.mean())


def _after(first: tuple[Slope, ...], then: tuple[Line, ...]) -> tuple[Line, ...]:
    return tuple(
        structs.replace(line, slope=line.slope * a, offset=line.slope * b + line.offset)
        for (a, b), line in zip(first, then, strict=True)
    )
