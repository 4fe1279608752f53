"""Does a single raw field of a single event give the attacks away? Then the simulator leaks.

What is an attack should show in what an account does over time, not in how its fields were made up.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.simulate.world import Difficulty, Simulated

LIMIT: Final = 0.75  # an AUC above this, or below 1 minus this, is a leak
_OPTIONAL: Final = (
    "item_id",
    "category_id",
    "session_id",
    "query",
    "position",
    "price",
    "quantity",
)
_NUMBERS: Final = ("position", "price", "quantity")
_ENOUGH: Final = 100  # events on each side; an AUC over fewer says little

Values = NDArray[np.float64]


def audit(simulated: Iterable[Simulated], difficulty: Difficulty = "hard") -> dict[str, float]:
    """AUC of each raw field, attacks of one difficulty against honest events; 0.5 tells nothing.

    Popularity counts honest events other than the one looked at. Numbers are compared among events
    that have them, and whether they do is a field of its own. Fields that less than a hundred
    events have on either side are left out.
    """
    kept = [s for s in simulated if not s.label.label or s.label.difficulty == difficulty]
    attack = np.array([s.label.label for s in kept], bool)
    fields: dict[str, Values] = {}
    times = np.array([_whole(s.event["event_time"]) for s in kept], np.int64)
    fields["hour"] = (times // 3_600_000 % 24).astype(np.float64)
    fields["second"] = (times // 1000 % 60).astype(np.float64)
    fields["ms"] = (times % 1000).astype(np.float64)
    for name in ("item_id", "category_id"):
        values = [s.event.get(name) for s in kept]
        seen = Counter(v for v, a in zip(values, attack, strict=True) if not a)
        fields[f"{name} popularity"] = np.array(
            [
                np.nan if v is None else float(seen[v] - (not a))
                for v, a in zip(values, attack, strict=True)
            ]
        )
    for name in ("user_id", "event_id", "item_id", "category_id", "session_id"):
        fields |= _id_fields(name, [s.event.get(name) for s in kept])
    for name in _OPTIONAL:
        fields[f"has {name}"] = np.array([float(name in s.event) for s in kept])
    for name in _NUMBERS:
        fields[name] = np.array([_number(s.event.get(name)) for s in kept])
    found: dict[str, float] = {}
    for name, column in fields.items():
        has = ~np.isnan(column)
        if min(np.sum(attack & has), np.sum(~attack & has)) >= _ENOUGH:
            found[name] = round(area_under_curve(attack[has], column[has]), 3)
    return found


def leaks(found: dict[str, float], limit: float = LIMIT) -> dict[str, float]:
    """The fields of an audit that separate too well, either way round."""
    return {name: auc for name, auc in found.items() if max(auc, 1.0 - auc) > limit}


def area_under_curve(positive: NDArray[np.bool_], score: Values) -> float:
    """Probability that a positive scores above a negative; ties count half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2.0)[inverse]
    n = int(positive.sum())
    above = rank[positive].sum() - n * (n + 1) / 2.0
    return float(above / (n * (len(positive) - n)))


def _id_fields(name: str, ids: Sequence[object]) -> dict[str, Values]:
    texts = [str(i) if i is not None else "" for i in ids]
    return {
        f"{name} length": np.array([float(len(t)) if t else np.nan for t in texts]),
        f"{name} value": np.array([_id_value(t) if t else np.nan for t in texts]),
        f"{name} hash": np.array([float(zlib.crc32(t.encode())) if t else np.nan for t in texts]),
    }


def _id_value(text: str) -> float:
    """A number that orders ids as their digits do, in base 36; what is no digit is passed over."""
    digits = "".join(c for c in text.lower() if c.isascii() and c.isalnum())
    return float(int(digits or "0", 36))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
