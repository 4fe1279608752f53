"""How unexpected an event is: minus the log probability of each of its fields, in nats.

From the heads that were pre-trained to guess events, in the same pass that scores: causally from
the state before the event, in a bidirectional encoder from the event's own state.
"""

from __future__ import annotations

import torch
from torch import Tensor


def field_surprise(guesses: list[Tensor], classes: Tensor) -> Tensor:
    """(events, fields) nats. `guesses[f]` (events, classes) logits; `classes` (events, fields)."""
    found = [
        torch.nn.functional.cross_entropy(guess, classes[:, at], reduction="none")
        for at, guess in enumerate(guesses)
    ]
    return torch.stack(found, 1)


def standardised(guesses: list[Tensor], classes: Tensor) -> Tensor:
    """(events, fields): surprise less what the guess itself expects, in its standard deviations.

    Far below 0 is unusual as well: nobody is that predictable.
    """
    found = []
    for at, nats in enumerate(field_surprise(guesses, classes).unbind(1)):
        logs = torch.log_softmax(guesses[at], 1)
        weights = logs.exp()
        expected = -(weights * logs).sum(1)
        variance = (weights * logs * logs).sum(1) - expected * expected
        found.append((nats - expected) / (variance.clamp(min=0) + 0.05).sqrt())
    return torch.stack(found, 1)
