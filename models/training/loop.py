"""The loop: phases of epochs of steps, early stopping, the best weights kept.

Every random number is a function of seed, phase, epoch, step and process, so that a training which
was broken off goes on as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

import numpy as np
import torch
import xxhash

from models.dataset import Dataset
from models.features import columns
from models.inference import run
from models.measures import average_precision
from models.network import Network
from models.training.batches import Batches
from models.training.objective import Batch, Losses, Objective
from models.training.recipe import Progress, Recipe
from stream_app.core.window import Ints

CHOOSE_AT_MOST: Final = 30_000  # events scored after each epoch
_POSITIVE_SHARE: Final = 0.25  # of the loss


class Loop:
    """Fits one network in place."""

    def __init__(
        self,
        network: Network,
        data: Dataset,
        choose_on: Ints,
        positive_weight: float,
        recipe: Recipe,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.network, self.data, self.recipe, self.device = network, data, recipe, device
        self.choose_on, self.progress = choose_on, progress
        self.began = time.monotonic()
        self.objective = Objective(network, recipe.loss, positive_weight).to(device)
        rows = data.windows.rows
        self.rows = columns(network.schema, rows).to(device)
        self.ids = np.ascontiguousarray(rows["id"])
        anomalous = np.zeros(len(rows), np.float32)
        anomalous[data.row[data.anomalous]] = 1
        self.target = torch.from_numpy(anomalous).to(device)

    def phase(self, name: str, batches: Batches, epochs: int, supervised: bool) -> int:
        """Fit in place; the best epoch's weights stay. Returns the epochs."""
        optimiser = _optimiser(self.network, self.recipe)
        best, kept, stale, epoch = -1.0, None, 0, 0
        while epoch < epochs and not self._late() and stale < self.recipe.patience:
            loss = self._epoch(name, batches, epoch, epochs, optimiser, supervised)
            epoch += 1
            said = f"{name} {epoch}/{epochs}: loss {loss:.4f}"
            if supervised:
                found = self._chosen_by()
                said += f", average precision {found:.4f}"
                if found > best:
                    best, stale = found, 0
                    state = self.network.state_dict()
                    kept = {key: value.detach().clone() for key, value in state.items()}
                else:
                    stale += 1
            self.progress(f"{said}, {time.monotonic() - self.began:.0f} s")
        if kept is not None:
            self.network.load_state_dict(kept)
        self.network.eval()
        return epoch

    def _epoch(
        self,
        name: str,
        batches: Batches,
        epoch: int,
        epochs: int,
        optimiser: torch.optim.Optimizer,
        supervised: bool,
    ) -> float:
        steps = batches.epoch(np.random.default_rng(self._seed(name, epoch)))
        self.network.train()
        total = torch.zeros((), device=self.device)
        at = 0
        for at, events in enumerate(steps, 1):
            _set_rate(optimiser, self.recipe.rate, (epoch + at / len(steps)) / epochs)
            losses = self._losses(batches, events, self._seed(name, epoch, at), supervised)
            optimiser.zero_grad(set_to_none=True)
            losses.total.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimiser.step()
            total += losses.total.detach()
            if self._late():
                break
        return float(total) / max(at, 1)

    def _losses(self, batches: Batches, events: Ints, seed: int, supervised: bool) -> Losses:
        torch.manual_seed(seed)  # dropout
        generator = torch.Generator().manual_seed(seed)
        step = batches.step(events)
        index = torch.from_numpy(step.index).to(self.device)
        batch = Batch(
            self.rows.gather(index),
            self.target[index],
            torch.from_numpy(step.weight).to(self.device),
            torch.from_numpy(step.lengths).to(self.device),
            self.ids[step.index],
        )
        found: Losses = self.objective(batch, generator, seed, supervised)
        return found

    def _chosen_by(self) -> float:
        """Average precision on the users that choose the epoch, as the stream would score them."""
        windows = self.data.windows.take(self.choose_on)
        self.network.eval()
        raw = run(self.network, windows, self.device).logits
        own = raw[np.arange(len(windows)), self.data.task[self.choose_on]]
        found = average_precision(own, self.data.anomalous[self.choose_on])
        return 0.0 if math.isnan(found) else found

    def _late(self) -> bool:
        return time.monotonic() - self.began > self.recipe.time_limit_s

    def _seed(self, *of: Any) -> int:
        return xxhash.xxh3_64_intdigest(repr((self.recipe.seed, *of)).encode()) >> 33


def positive_weight(anomalies: int, events: int) -> float:
    """So that anomalies make up a quarter of the loss, within reason."""
    balance = (events - anomalies) / max(anomalies, 1)
    return float(np.clip(_POSITIVE_SHARE / (1 - _POSITIVE_SHARE) * balance, 0.2, 100))


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, done: float) -> None:
    """By the share of a phase that is done: a short rise, then a cosine."""
    share = min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0) * 0.97))
    for group in optimiser.param_groups:
        group["lr"] = rate * share
