"""How far the judged events have moved from those before: population stability index by field.

    PSI = sum over bins of (share now - share then) * ln(share now / share then)

Below 0.1 little, above 0.25 a lot. Needs no labels. Names that come and go (items of a shop) move
by themselves: only the most frequent of before are bins of their own.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.dataset import Dataset
from models.schema import MISSING_ORDINAL, Schema
from stream_app.core.window import Ints

LITTLE: Final = 0.1
MUCH: Final = 0.25
_NAMES: Final = 20
_PARTS: Final = 10
_LEAST: Final = 1e-4  # share of an empty bin

Codes = NDArray[np.int64]


def psi(then: Codes, now: Codes) -> float:
    """Of two samples of bin numbers from 0."""
    count = int(max(then.max(initial=0), now.max(initial=0))) + 1
    before = np.bincount(then, minlength=count) / max(len(then), 1)
    after = np.bincount(now, minlength=count) / max(len(now), 1)
    p, q = np.maximum(before, _LEAST), np.maximum(after, _LEAST)
    return float(((q - p) * np.log(q / p)).sum())


def drift_of(data: Dataset, before: Ints, after: Ints, schema: Schema) -> dict[str, float]:
    """PSI of each field, of the event type and of the hour, events `after` against `before`."""
    rows = data.windows.rows
    then, now = rows[data.row[before]], rows[data.row[after]]
    found = {
        "type": psi(then["type"].astype(np.int64), now["type"].astype(np.int64)),
        "hour of day": psi(_hour(then["at_ms"]), _hour(now["at_ms"])),
    }
    for field in schema.fields:
        if field.kind == "category":
            codes = _by_name(then[field.name], now[field.name])
        elif field.kind == "ordinal":
            codes = _by_size(_ordinal(then[field.name]), _ordinal(now[field.name]))
        else:
            codes = _by_size(
                then[field.name].astype(np.float64), now[field.name].astype(np.float64)
            )
        found[field.title] = psi(*codes)
    return found


def _hour(at_ms: NDArray[Any]) -> Codes:
    return np.asarray(at_ms // 3_600_000 % 24, np.int64)


def _ordinal(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(values == MISSING_ORDINAL, np.nan, values.astype(np.float64))


def _by_name(then: NDArray[Any], now: NDArray[Any]) -> tuple[Codes, Codes]:
    """Missing, the most frequent names of before, all others."""
    names, counts = np.unique(then[then != 0], return_counts=True)
    kept = np.sort(names[np.argsort(-counts, kind="stable")[:_NAMES]])

    def coded(values: NDArray[Any]) -> Codes:
        at = np.searchsorted(kept, values)
        known = at < len(kept)
        known[known] = kept[at[known]] == values[known]
        return np.where(values == 0, 0, np.where(known, at + 2, 1))

    return coded(then), coded(now)


def _by_size(then: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[Codes, Codes]:
    """Missing, then tenths of before."""
    known = then[~np.isnan(then)]
    shares = np.arange(1, _PARTS) / _PARTS
    cuts = np.unique(np.quantile(known, shares)) if len(known) else np.zeros(0)

    def coded(values: NDArray[np.float64]) -> Codes:
        return np.where(np.isnan(values), 0, np.searchsorted(cuts, values, side="right") + 1)

    return coded(then), coded(now)
