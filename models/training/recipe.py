"""How weights are fitted: the few numbers that there are, and what they are for a given amount."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, get_args

from msgspec import Struct

from stream_app.core.errors import Misconfigured

Loss = Literal["ce", "mse", "focal"]
Progress = Callable[[str], None]

_EPOCH: Final = 400_000  # events that are seen often enough in the full number of epochs
_FEWEST: Final = 3  # epochs, however much there is


class Recipe(Struct, frozen=True, kw_only=True):
    """One encoder's training. The rate is a tiny network's; `rate_for` has that of others."""

    epochs: int = 8
    pretrain_epochs: int = 2
    patience: int = 3  # epochs without a better average precision
    lines: int = 64  # stretches a step, over all processes
    accumulate: int = 1  # steps whose gradients are added up
    rate: float = 1e-3
    weight_decay: float = 0.02
    positive_share: float = 0.25  # of the tasks' loss that anomalies make up
    number_dropout: float = 0.05  # share of numbers that a step does without
    loss: Loss = "ce"
    time_limit_s: float = math.inf
    seed: int = 0
    save_every_s: float = 60.0  # between checkpoints
    compile: bool = False  # worth its minute on a GPU; widths are then rounded up

    def check(self) -> None:
        """Raises Misconfigured."""
        if self.loss not in get_args(Loss):
            raise Misconfigured(
                f"there is no loss {self.loss!r}: choose {', '.join(get_args(Loss))}"
            )
        for name in ("lines", "accumulate", "patience"):
            if getattr(self, name) < 1:
                raise Misconfigured(f"{name} must be at least 1")
        if not 0 < self.positive_share < 1 or not 0 <= self.number_dropout < 1:
            raise Misconfigured("positive_share and number_dropout are shares, less than 1")
        if not self.rate > 0 or not self.weight_decay >= 0:
            raise Misconfigured("rate must be above 0, and weight_decay not below")


def epochs_for(events: int, most: int) -> int:
    """Passes with labels: the more events there are, the fewer; each pass shows more of them."""
    scaled = round(most * math.sqrt(_EPOCH / max(events, _EPOCH)))
    return min(most, max(_FEWEST, scaled))


def rate_for(hidden: int, warm: bool) -> float:
    """Larger networks learn in smaller steps, and those that begin from known weights as well."""
    rate = 1e-3 * min(1.0, 128 / hidden)
    return min(rate, 3e-4) if warm else rate
