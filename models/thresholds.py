"""Rules for where a calibrated score begins to count as anomalous, for a later slice of events.

    half           0.5: more likely an anomaly than not
    cost:R         a missed anomaly costs as much as R false alarms
    budget:S       a share S of all events may be anomalous, say 0.001
    conformal:A    a clean event is called anomalous with probability A at most

The first two need probabilities that are right; the others only look at how scores are spread, and
need no labels: `conformal` takes all events for clean that are not labelled anomalous. Never to be
used on the events that the result is then measured on.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.core.errors import Misconfigured
from stream_app.core.score import Floats

Kind = Literal["half", "cost", "budget", "conformal"]
HALF: Final = 0.5


class Rule(Struct, frozen=True):
    """`value` is a ratio of costs, or a share; nothing for half."""

    kind: Kind
    value: float = 0.0

    def __str__(self) -> str:
        return self.kind if self.kind == "half" else f"{self.kind}:{self.value:g}"

    @property
    def least(self) -> int:
        """Events that the rule needs."""
        return math.ceil(1 / self.value) if self.kind in ("budget", "conformal") else 0


def parse(text: str) -> Rule:
    """`budget:0.001` and the like. Raises Misconfigured."""
    kind, _, value = text.partition(":")
    if kind == "half" and not value:
        return Rule("half")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if kind == "cost" and 0 < number < math.inf:
        return Rule("cost", number)
    if kind == "budget" and 0 < number < 1:
        return Rule("budget", number)
    if kind == "conformal" and 0 < number < 1:
        return Rule("conformal", number)
    raise Misconfigured(
        f"{text!r} is no rule for a threshold: write half, cost:R (R false alarms for one missed "
        "anomaly), budget:S or conformal:S (a share between 0 and 1)"
    )


def threshold(rule: Rule, scores: Floats, anomalous: NDArray[np.bool_]) -> float:
    """The rule's threshold for these events. Raises Misconfigured if they are too few."""
    if rule.kind == "half":
        return HALF
    if rule.kind == "cost":
        return 1 / (1 + rule.value)
    counted = scores if rule.kind == "budget" else scores[~anomalous]
    if len(counted) < rule.least:
        raise Misconfigured(
            f"{rule} needs at least {rule.least:,} events, and there are {len(counted):,}: take "
            "more, or allow a larger share"
        )
    # The p-value of a score counts the score itself among its like: hence the one more.
    more = 1 if rule.kind == "conformal" else 0
    allowed = math.floor(rule.value * (len(counted) + more)) - more
    return _above(counted, max(allowed, 0))


def _above(scores: Floats, allowed: int) -> float:
    """The lowest threshold that at most `allowed` of the scores reach, midway to those that do."""
    falling = -np.sort(-scores.astype(np.float64))
    limit = falling[allowed]  # the first that must not
    higher = falling[:allowed][falling[:allowed] > limit]
    least = float(np.nextafter(np.float32(limit), np.float32(2)))
    return max(least, float(limit + higher[-1]) / 2) if len(higher) else least
