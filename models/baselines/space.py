"""What may be tuned of each baseline, small enough for a budget of a few dozen trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct

Settings = Mapping[str, float]


class Range(Struct, frozen=True):
    """From `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


class Trial(Protocol):
    """Of optuna's trial, what is asked of it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


_GROWTH: Final = {
    "rate": Range(0.02, 0.1, log=True),
    "leaves": Range(6, 40, log=True, whole=True),
    "least": Range(20, 300, log=True, whole=True),
    "columns": Range(0.1, 0.8),
    "l2": Range(1, 100, log=True),
}

SPACES: Final[Mapping[str, Mapping[str, Range]]] = {
    "velocity": {"quantile": Range(0.98, 0.9999)},
    "isolation-forest": {
        "trees": Range(100, 500, whole=True),
        "events": Range(128, 4096, True, True),
    },
    "ecod": {},
    "hbos": {"bins": Range(8, 60, whole=True)},
    "knn": {"nearest": Range(3, 60, True, True), "parts": Range(8, 60, whole=True)},
    "mean-shift": {"quantile": Range(0.01, 0.2, True), "parts": Range(4, 15, whole=True)},
    "pca": {"parts": Range(8, 80, whole=True)},
    "boosted-own": _GROWTH,
    "boosted": _GROWTH,
    "stack": {**_GROWTH, "looks": Range(1, 3, whole=True)},
    "stack-encoder": {**_GROWTH, "looks": Range(1, 3, whole=True)},
    "surprise": {},
    "gru": {"epochs": Range(3, 12, whole=True)},
    "random-encoder": {},
}


def suggest(trial: Trial, name: str) -> Settings:
    """Settings of the baseline `name` for `registry.detectors`."""
    found: dict[str, float] = {}
    for key, one in SPACES[name].items():
        if one.whole:
            found[key] = trial.suggest_int(key, int(one.low), int(one.high), log=one.log)
        else:
            found[key] = trial.suggest_float(key, one.low, one.high, log=one.log)
    return found
