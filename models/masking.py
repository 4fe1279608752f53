"""Which events a bidirectional encoder must guess: 15 %; 80 % of them hidden, 10 % exchanged.

A pure function of the events' ids and a seed: the same on every machine, in any batch. The
exchanged and kept ones matter: with them one unmasked pass is as good a surprise as one pass for
each event.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE: Final = 0.15
HIDDEN: Final = 0.8
EXCHANGED: Final = 0.1

Mask = NDArray[np.bool_]


class Masking(NamedTuple):
    """(windows, events) each."""

    guessed: Mask  # the loss counts these
    hidden: Mask  # shown as a mask
    source: NDArray[
        np.int64
    ]  # flat position of the event that is shown in its place; mostly its own


def mask_events(ids: NDArray[np.uint64], valid: Mask, seed: int) -> Masking:
    """`ids` (windows, events) of the events; `valid` false where there is none."""
    guessed = valid & (_uniform(ids, seed, 1) < RATE)
    lot = _uniform(ids, seed, 2)
    hidden = guessed & (lot < HIDDEN)
    exchanged = guessed & (lot >= HIDDEN) & (lot < HIDDEN + EXCHANGED)
    source = np.arange(ids.size).reshape(ids.shape)
    pool = source[valid]
    if len(pool):
        drawn = (_uniform(ids, seed, 3) * len(pool)).astype(np.int64)
        source = np.where(exchanged, pool[drawn], source)
    return Masking(guessed, hidden, source)


def _uniform(ids: NDArray[np.uint64], seed: int, stream: int) -> NDArray[np.float64]:
    """splitmix64 of id, seed and stream, as numbers in [0, 1)."""
    key = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    x = ids + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / float(1 << 53)
