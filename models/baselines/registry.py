"""Baselines by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from models.baselines.detector import Detector
from models.baselines.velocity import Velocity
from stream_app.core.errors import Misconfigured

_MADE: Final[dict[str, Callable[[int, int], Detector]]] = {
    "velocity": lambda seed, threads: Velocity(),
}
NAMES: Final = tuple(_MADE)


def detectors(names: Iterable[str] = NAMES, seed: int = 0, threads: int = 1) -> list[Detector]:
    """Fresh detectors, not fitted. Raises Misconfigured if a name is unknown."""
    found = []
    for name in names:
        if name not in _MADE:
            raise Misconfigured(f"there is no baseline {name!r}: choose {', '.join(NAMES)}")
        found.append(_MADE[name](seed, threads))
    return found
