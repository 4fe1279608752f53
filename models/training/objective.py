"""What is minimised: the tasks' loss at labelled events, and how badly normal events are guessed.

Every position of a rectangle is computed, and weighed by what it counts: picking some would make a
GPU wait for their number, and there is little filling. One module around the network, so that
several processes can share its gradients. Knows tensors alone; what is random is given.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.features import Columns
from models.inference import mixed_precision
from models.masking import mask_events
from models.network import Network
from models.training.recipe import Loss

_GUESS_WEIGHT: Final = 0.1  # of guessing events, beside the labels
_FOCUS: Final = 2.0  # focal loss: how little what is already right counts


class Batch(NamedTuple):
    """A step on the device: (lines, events) each, but for `lengths`."""

    window: Columns
    target: Tensor
    weight: Tensor
    lengths: Tensor


class Chance(NamedTuple):
    """What is random in a step, beside dropout within the encoder."""

    salt: Tensor  # (lines, categories)
    kept: Tensor  # (lines, numbers)
    guessed: Tensor  # (lines, events) 1 where a masked event must be guessed; empty if none is
    hidden: Tensor  # (lines, events) shown as a mask
    source: Tensor  # (lines * events,) which event is shown in the place of each


class Losses(NamedTuple):
    total: Tensor
    guess: Tensor  # of a field, in nats


class Objective(nn.Module):
    """`positive_weight`: of an anomaly, against 1 of a normal event."""

    def __init__(self, network: Network, loss: Loss, positive_weight: float) -> None:
        super().__init__()
        self.network, self._loss, self._positive_weight = network, loss, positive_weight

    def forward(self, batch: Batch, chance: Chance, supervised: bool) -> Losses:
        network, window, weight = self.network, batch.window, batch.weight
        described = network.describe(window)
        with mixed_precision(weight.device):
            inputs = network.inputs(window, described, chance.salt)
            states: Tensor | None = None
            masked = len(chance.guessed) > 0
            if supervised or not masked:
                shown = network.number_dropout(inputs, chance.kept)
                tokens, own = network.embed(shown)
                states = network.encode(tokens, batch.lengths)
            loss = inputs.new_zeros(())
            if supervised and states is not None:
                task = network.task_of_type[window.type]
                scored = network.logits(states, own).gather(2, task[:, :, None])[:, :, 0]
                loss = self._of_labels(scored, batch.target, weight)
            if masked:
                known, counts = self._masked(batch, inputs, chance), chance.guessed
            elif states is not None:
                past = network.no_past.to(states.dtype).expand(len(weight), 1, -1)
                known = torch.cat([past, states[:, :-1]], 1)
                counts = ((weight > 0) & (batch.target == 0)).float()
            guesses = network.guesses(known)
        before = F.pad(window.hashes[:, :-1], (0, 0, 1, 0))
        classes = network.classes(window.type, window.hashes, before, described)
        nats = torch.zeros_like(weight)
        for at, guess in enumerate(guesses):
            nats += F.cross_entropy(guess.mT, classes[:, :, at], reduction="none")
        guess = (nats * counts).sum() / (counts.sum().clamp(min=1) * len(guesses))
        return Losses(loss + (_GUESS_WEIGHT if supervised else 1.0) * guess, guess.detach())

    def _of_labels(self, scored: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if self._loss == "mse":
            each = (scored.sigmoid() - target) ** 2
        else:
            each = F.binary_cross_entropy_with_logits(scored, target, reduction="none")
        if self._loss == "focal":
            wrong = (scored.sigmoid() - target).abs()
            each = each * wrong**_FOCUS
        counts = weight * (1 + (self._positive_weight - 1) * target)
        return (each * counts).sum() / counts.sum().clamp(min=1e-9)

    def _masked(self, batch: Batch, inputs: Tensor, chance: Chance) -> Tensor:
        """States by which a bidirectional encoder guesses masked events."""
        network = self.network
        shown = inputs.flatten(0, 1)[chance.source].view_as(inputs)
        tokens, _ = network.embed(shown, counted=False)
        mask_token = network.mask_token.to(tokens.dtype)
        hidden = chance.hidden[:, :, None]
        return network.encode(torch.where(hidden, mask_token, tokens), batch.lengths)


def draw(
    network: Network,
    lengths: Tensor,
    seed: int,
    number_dropout: float,
    ids: NDArray[np.uint64] | None = None,
) -> Chance:
    """A function of the seed. `ids` (lines, events) of the events, if some are to be masked."""
    device = lengths.device
    generator = torch.Generator(device).manual_seed(seed)
    count = (len(lengths), len(network.numbers))
    kept = torch.rand(count, generator=generator, device=device) >= number_dropout
    salt = network.salts(len(lengths), generator)
    if ids is None:
        nothing = lengths.new_zeros(0)
        return Chance(salt, kept.float(), nothing, nothing, nothing)
    valid = np.arange(ids.shape[1]) < lengths.cpu().numpy()[:, None]
    masking = mask_events(ids, valid, seed)
    return Chance(
        salt,
        kept.float(),
        torch.from_numpy(masking.guessed).to(device).float(),
        torch.from_numpy(masking.hidden).to(device),
        torch.from_numpy(masking.source.reshape(-1)).to(device),
    )
