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
from msgspec import Struct, structs
from torch import Tensor

from models.dataset import Dataset
from models.features import columns
from models.inference import run
from models.measures import average_precision
from models.network import Network
from models.training.batches import Batches
from models.training.checkpoint import Checkpoint, Place, part, restore, state_of
from models.training.objective import Batch, Losses, Objective, draw
from models.training.processes import Processes
from models.training.recipe import Recipe
from models.training.watch import Watch
from stream_app.core.window import Ints

CHOOSE_AT_MOST: Final = 30_000  # events scored after each epoch


class Phase(Struct, frozen=True):
    name: str
    batches: Batches
    epochs: int
    supervised: bool


class Loop:
    """Fits one network in place."""

    def __init__(
        self,
        network: Network,
        data: Dataset,
        choose_on: Ints,
        positive_weight: float,
        recipe: Recipe,
        processes: Processes,
        watch: Watch,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.network, self.data, self.recipe = network, data, recipe
        self.choose_on, self.watch, self.checkpoint = choose_on, watch, checkpoint
        self.processes, self.device = processes, processes.device
        self.objective = Objective(network, recipe.loss, positive_weight).to(self.device)
        self.module = processes.wrap(self.objective)
        if recipe.compile:
            self.module = torch.compile(self.module)
        rows = data.windows.rows
        self.rows = columns(network.schema, rows).to(self.device)
        self.ids = np.ascontiguousarray(rows["id"])
        anomalous = np.zeros(len(rows), np.float32)
        anomalous[data.row[data.anomalous]] = 1
        self.target = torch.from_numpy(anomalous).to(self.device)
        self.began = self.saved = time.monotonic()
        self.steps = 0

    def run(self, phases: list[Phase]) -> int:
        """Fit in place, from where a checkpoint stands; the best epoch's weights stay.

        Returns the epochs of the last phase. Raises Misconfigured if the checkpoint is damaged.
        """
        self.processes.wait()
        held = self.checkpoint.load() if self.checkpoint is not None else None
        place, tensors = held or (Place(phase=phases[0].name), {})
        self.began -= place.seconds
        self.steps = place.steps
        begin = [phase.name for phase in phases].index(place.phase)
        if held is not None:
            self.watch.say(f"going on with {place.phase} {place.epoch + 1}, step {place.step + 1}")
        for at, phase in enumerate(phases[begin:]):
            place = place if at == 0 else Place(phase=phase.name)
            place = self._phase(phase, place, tensors if at == 0 else {})
        self.network.eval()
        return place.epoch

    def _phase(self, phase: Phase, place: Place, tensors: dict[str, Tensor]) -> Place:
        optimiser = optimiser_of(self.network, self.recipe)
        if tensors:
            restore(self.network, optimiser, tensors)
        kept = part(tensors, "best")
        while not place.finished:
            if place.epoch >= phase.epochs or place.stale >= self.recipe.patience or self._late():
                break
            place = self._epoch(phase, place, optimiser, kept)
            loss = place.loss / max(place.step, 1)
            place = structs.replace(place, epoch=place.epoch + 1, step=0, loss=0.0)
            said = f"{phase.name} {place.epoch}/{phase.epochs}: loss {loss:.4f}"
            if phase.supervised:
                found = self._chosen_by()
                said += f", average precision {found:.4f}"
                self.watch.curve("average precision", found, place.epoch)
                if found > place.best:
                    place = structs.replace(place, best=found, stale=0)
                    state = self.network.state_dict()
                    kept = {key: value.detach().clone() for key, value in state.items()}
                else:
                    place = structs.replace(place, stale=place.stale + 1)
            self.watch.end()
            self.watch.say(f"{said}, {time.monotonic() - self.began:.0f} s")
            self._save(place, optimiser, kept)
        if kept:
            self.network.load_state_dict(kept)
        place = structs.replace(place, finished=True)
        self._save(place, optimiser, {})
        return place

    def _epoch(
        self, phase: Phase, place: Place, optimiser: torch.optim.Optimizer, kept: dict[str, Tensor]
    ) -> Place:
        """Returns where it ended: `loss` summed over `step` steps."""
        recipe, name = self.recipe, phase.name
        steps = phase.batches.epoch(np.random.default_rng(self._seed(name, place.epoch)))
        steps = [step for step in steps if len(step) >= self.processes.count]
        self.network.train()
        total = torch.tensor(place.loss, device=self.device, dtype=torch.float64)
        for at in range(place.step, len(steps)):
            done = (place.epoch + (at + 1) / len(steps)) / phase.epochs
            rate = _set_rate(optimiser, recipe.rate, done)
            due = (at + 1) % recipe.accumulate == 0 or at + 1 == len(steps)
            seed = self._seed(name, place.epoch, at, self.processes.rank)
            losses = self.advance(phase, steps[at], optimiser, seed, due)
            total += losses.total.detach()
            self.steps += 1
            if self.watch.curves and self.steps % 20 == 0:
                self.watch.curve(f"{name} loss", float(losses.total.detach()), self.steps)
                self.watch.curve(f"{name} guess loss", float(losses.guess), self.steps)
                self.watch.curve("learning rate", rate, self.steps)
            self.watch.step(f"{name} {place.epoch + 1}/{phase.epochs}", at + 1, len(steps))
            reached = structs.replace(place, step=at + 1)
            if due and time.monotonic() - self.saved > recipe.save_every_s:
                self._save(structs.replace(reached, loss=float(total)), optimiser, kept)
            if self._late():
                break
        step = at + 1 if len(steps) > place.step else place.step
        return structs.replace(place, step=step, loss=self.processes.mean(total))

    def advance(
        self,
        phase: Phase,
        events: Ints,
        optimiser: torch.optim.Optimizer,
        seed: int,
        due: bool = True,
    ) -> Losses:
        """One step over the windows of `events`; weights change if it is `due`."""
        if not due:
            with self.processes.apart(self.module):
                return self._backward(phase, events, seed)
        losses = self._backward(phase, events, seed)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return losses

    def losses(self, phase: Phase, events: Ints, seed: int) -> Losses:
        """Of this process' share of the windows of `events`."""
        torch.manual_seed(seed)  # dropout
        step = phase.batches.step(self.processes.share(events))
        batch = Batch(
            self.rows.gather(step.rows), self.target[step.rows], step.weight, step.lengths
        )
        masked = self.network.config.attention == "bidirectional"
        ids = self.ids[step.rows.cpu().numpy()] if masked else None
        chance = draw(self.network, step.lengths, seed, self.recipe.number_dropout, ids)
        found: Losses = self.module(batch, chance, phase.supervised)
        return found

    def _backward(self, phase: Phase, events: Ints, seed: int) -> Losses:
        losses = self.losses(phase, events, seed)
        self.processes.backward(losses.total / self.recipe.accumulate)
        return losses

    def _save(
        self, place: Place, optimiser: torch.optim.Optimizer, kept: dict[str, Tensor]
    ) -> None:
        self.saved = time.monotonic()
        if self.checkpoint is None or not self.processes.first:
            return
        best = {f"best.{key}": value for key, value in kept.items()}
        place = structs.replace(place, seconds=self.saved - self.began, steps=self.steps)
        self.checkpoint.save(place, state_of(self.network, optimiser) | best)

    def _chosen_by(self) -> float:
        """Average precision on the users that choose the epoch, as the stream would score them."""
        own = self.processes.share(self.choose_on)
        self.network.eval()
        raw = run(self.network, self.data.windows.take(own), self.device).logits
        scored = raw[np.arange(len(own)), self.data.task[own]]
        scores = self.processes.together(scored, len(self.choose_on))
        found = average_precision(scores, self.data.anomalous[self.choose_on])
        return 0.0 if math.isnan(found) else found

    def _late(self) -> bool:
        if self.recipe.time_limit_s == math.inf:
            return False
        return self.processes.any(time.monotonic() - self.began > self.recipe.time_limit_s)

    def _seed(self, *of: Any) -> int:
        return xxhash.xxh3_64_intdigest(repr((self.recipe.seed, *of)).encode()) >> 33


def positive_weight(anomalies: float, events: float, share: float = 0.25) -> float:
    """So that anomalies make up this share of the loss, within reason."""
    balance = (events - anomalies) / max(anomalies, 1e-9)
    return float(np.clip(share / (1 - share) * balance, 0.2, 100))


def optimiser_of(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    fused = next(network.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=recipe.rate, fused=fused)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float, done: float) -> float:
    """By the share of a phase that is done: a short rise, then a cosine. Returns the rate."""
    share = min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0) * 0.97))
    for group in optimiser.param_groups:
        group["lr"] = rate * share
    return rate * share
