"""What is minimised: the tasks' loss at labelled events, and how badly normal events are guessed.

One module around the network, so that several processes can share its gradients. Knows tensors
alone; what is random is given as a generator.
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
_NUMBER_DROPOUT: Final = 0.05
_FOCUS: Final = 2.0  # focal loss: how little what is already right counts


class Batch(NamedTuple):
    """A step on the device: (lines, events) each, but for `lengths`."""

    window: Columns
    target: Tensor
    weight: Tensor
    lengths: Tensor


class Losses(NamedTuple):
    total: Tensor
    guess: Tensor  # of a field, in nats


class Objective(nn.Module):
    """`positive_weight`: of an anomaly, against 1 of a normal event."""

    def __init__(self, network: Network, loss: Loss, positive_weight: float) -> None:
        super().__init__()
        self.network, self._loss, self._positive_weight = network, loss, positive_weight

    def forward(
        self,
        batch: Batch,
        generator: torch.Generator,
        seed: int,
        supervised: bool,
        ids: NDArray[np.uint64] | None = None,
    ) -> Losses:
        """`ids` of the events, where a bidirectional encoder must guess masked ones."""
        network, window, weight = self.network, batch.window, batch.weight
        described = network.describe(window)
        salt = network.salts(len(weight), generator).to(weight.device)
        normal = (weight > 0) & (batch.target == 0)
        with mixed_precision(weight.device):
            inputs = network.inputs(window, described, salt)
            loss = inputs.new_zeros(())
            states: Tensor | None = None
            if supervised or ids is None:
                shown = network.number_dropout(inputs, _NUMBER_DROPOUT, generator)
                tokens, own = network.embed(shown)
                states = network.encode(tokens, batch.lengths)
            if supervised and states is not None:
                read = weight > 0
                logits = network.logits(states[read], own[read])
                task = network.task_of_type[window.type[read]]
                scored = logits.gather(1, task[:, None])[:, 0]
                loss = self._of_labels(scored, batch.target[read], weight[read])
            if ids is not None:
                known, which = self._masked(batch, inputs, seed, ids)
            elif states is not None:
                past = network.no_past.to(states.dtype).expand(len(weight), 1, -1)
                known, which = torch.cat([past, states[:, :-1]], 1)[normal], normal
            guesses = network.guesses(known)
        before = F.pad(window.hashes[:, :-1], (0, 0, 1, 0))
        classes = network.classes(
            window.type[which], window.hashes[which], before[which], described[which]
        )
        nats = [F.cross_entropy(g, classes[:, at]) for at, g in enumerate(guesses)]
        guess = torch.stack(nats).mean() if len(classes) else known.sum().float() * 0
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

    def _masked(
        self, batch: Batch, inputs: Tensor, seed: int, ids: NDArray[np.uint64]
    ) -> tuple[Tensor, Tensor]:
        """States of the events to be guessed, and which they are, for a bidirectional encoder."""
        network, device = self.network, inputs.device
        valid = np.arange(inputs.shape[1]) < batch.lengths.cpu().numpy()[:, None]
        masking = mask_events(ids, valid, seed)
        source = torch.from_numpy(masking.source.reshape(-1)).to(device)
        hidden = torch.from_numpy(masking.hidden).to(device)
        shown = inputs.flatten(0, 1)[source].view_as(inputs)
        tokens, _ = network.embed(shown, counted=False)
        mask_token = network.mask_token.to(tokens.dtype)
        states = network.encode(torch.where(hidden[:, :, None], mask_token, tokens), batch.lengths)
        which = torch.from_numpy(masking.guessed).to(device)
        return states[which], which
