"""What may be tuned: ranges by name, small enough for a budget of a few dozen trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import Struct


class Range(Struct, frozen=True):
    """From `low` to `high`, both included; `usual` is what stands if nothing is tuned."""

    low: float
    high: float
    usual: float
    log: bool = False
    whole: bool = False


Settings = Mapping[str, float]
Space = Mapping[str, Range]


class Trial(Protocol):
    """Of optuna's trial, what is asked of it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


def suggest(trial: Trial, space: Space) -> Settings:
    """A value of each range."""
    found: dict[str, float] = {}
    for key, one in space.items():
        if one.whole:
            found[key] = trial.suggest_int(key, int(one.low), int(one.high), log=one.log)
        else:
            found[key] = trial.suggest_float(key, one.low, one.high, log=one.log)
    return found


def usual(space: Space) -> Settings:
    """What stands if nothing is tuned."""
    return {key: int(one.usual) if one.whole else one.usual for key, one in space.items()}


# Of an encoder's training: names of `models.training.Options`. Usual is what a tiny one has.
TRAINING: Final[Space] = {
    "rate": Range(1e-4, 5e-3, 1e-3, log=True),
    "weight_decay": Range(1e-3, 0.3, 0.02, log=True),
    "dropout": Range(0.0, 0.4, 0.1),
    "lines": Range(16, 128, 64, log=True, whole=True),
    "positive_share": Range(0.1, 0.5, 0.25),
    "number_dropout": Range(0.0, 0.3, 0.05),
    "pretrain_epochs": Range(0, 4, 2, whole=True),
}
