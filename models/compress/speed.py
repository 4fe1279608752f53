"""How fast two bundles score the same windows: rounds in turn, so that both meet the same noise."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch
from msgspec import Struct

from models import bundle as bundles
from models.bundle import Bundle
from stream_app.core.window import Ints, Windows

ROUNDS: Final = 7


class Spread(Struct, frozen=True):
    """Of the rounds."""

    median: float
    least: float
    most: float


class Speed(Struct, frozen=True, kw_only=True):
    """Windows per second on the CPU, and how many times as fast round by round."""

    before: Spread
    after: Spread
    ratio: Spread
    threads: int


def compare(
    before: Bundle, after: Bundle, windows: Windows, tasks: Ints, threads: int, rounds: int = ROUNDS
) -> Speed:
    """Both are on the CPU. One round of each is not counted."""
    held = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        took = np.empty((rounds + 1, 2))
        for at in range(rounds + 1):
            for which in (0, 1) if at % 2 else (1, 0):  # neither always comes first
                took[at, which] = _once((before, after)[which], windows, tasks, threads)
    finally:
        torch.set_num_threads(held)
    took = took[1:]
    rates = len(windows) / took
    return Speed(
        before=_spread(rates[:, 0]),
        after=_spread(rates[:, 1]),
        ratio=_spread(took[:, 0] / took[:, 1]),
        threads=threads,
    )


def _once(bundle: Bundle, windows: Windows, tasks: Ints, threads: int) -> float:
    began = time.perf_counter()
    bundles.opinions(bundle, windows, tasks, threads=threads)
    return time.perf_counter() - began


def _spread(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Spread:
    return Spread(float(np.median(values)), float(values.min()), float(values.max()))
