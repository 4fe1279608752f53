"""A second look: trees that see an event's facts and what was said of the user's earlier events.

What was said comes from the same forward pass that scores: a causal encoder has an opinion of every
event of the window as of itself, so nothing is stored between events. An earlier event is judged by
what of its past is still in the window; training takes its windows the same way.

The trees must not be fitted to what an encoder says of users that it learnt from: it is surer of
those than it will be of others. So in training two encoders judge each the other's half of the
users (`models.training`), and each is put on one scale, as the encoder that serves is.
"""

from __future__ import annotations

from typing import Final

import torch
from msgspec import Struct
from torch import Tensor

from models.calibration import Line
from models.features import fact_names
from models.schema import Schema
from models.trees import Trees

_MEMORY: Final = 0.7  # of the fading mean that stays with each further event
_STEPS: Final = 16.0  # between a logit of 0 and of 1; see `features.facts`
_SUREST: Final = 9.0  # logit: nothing is told apart beyond
EARLIER: Final = ("last score", "mean score", "highest score", "fading mean of scores")


class SecondLook(Struct, frozen=True):
    """`source` names the encoder that it hears; `lines` put what that one says on the scale of the
    fit, by task index.
    """

    trees: Trees
    lines: tuple[Line, ...]
    source: str


def second_names(schema: Schema) -> tuple[str, ...]:
    """The facts that the trees of a second look see."""
    return (*fact_names(schema), *EARLIER)


def scaled(logits: Tensor, tasks: Tensor, lines: tuple[Line, ...]) -> Tensor:
    """(...) an event's logit under its own task. `logits` (..., tasks), `tasks` (...)."""
    slope = logits.new_tensor([line.slope for line in lines])
    offset = logits.new_tensor([line.offset for line in lines])
    own = logits.gather(-1, tasks[..., None])[..., 0]
    return (slope[tasks] * own + offset[tasks]).clamp(-_SUREST, _SUREST)


def earlier(scores: Tensor) -> Tensor:
    """(windows, events, EARLIER) of the events before each; NaN of the first.

    `scores` (windows, events): logits, each of the event as of itself.
    """
    length = scores.shape[1]
    place = torch.arange(length, device=scores.device)
    before = scores[:, :-1]
    mean = before.cumsum(1) / place[1:]
    highest = before.cummax(1).values
    back = place[1:, None] - 1 - place[None, :-1]  # (events, events before): 0 is the last one
    weights = _MEMORY ** back.clamp(min=0) * (back >= 0)
    weights[:, 1:] *= 1 - _MEMORY
    found = torch.stack([before, mean, highest, before @ weights.T.to(scores.dtype)], 2)
    rounded = (found * _STEPS).round() / _STEPS
    return torch.nn.functional.pad(rounded, (0, 0, 1, 0), value=float("nan"))
