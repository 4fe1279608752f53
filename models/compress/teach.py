"""A network learns to say what another one says: its log-odds of every event, and its guesses.

No labels are needed, and where the teacher is wrong the pupil will be. What is unusual to the
teacher counts more, as there is little of it. The epoch that comes closest on events of other users
is kept. The same arguments give the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
import xxhash
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.dataset import Dataset
from models.features import Columns, columns
from models.inference import run
from models.network import Network
from models.statistics import typical_input
from models.training.batches import Batches
from models.training.loop import CHOOSE_AT_MOST, optimiser_of
from models.training.recipe import Recipe
from stream_app.core.window import Ints

_UNUSUAL: Final = 10.0  # how much more an event counts that the teacher is sure is an anomaly
_GUESSES: Final = 0.1  # of guessing as the teacher does, beside its scores
_MOST: Final = 8.0  # logits beyond are all the same

Progress = Callable[[str], None]


class Lesson(Struct, frozen=True, kw_only=True):
    epochs: int
    rate: float
    lines: int = 32  # stretches of events a step
    seed: int = 0


def teach(
    pupil: Network,
    teacher: Network,
    data: Dataset,
    fit_on: Ints,
    choose_on: Ints,
    lesson: Lesson,
    progress: Progress = lambda _: None,
) -> Network:
    """Fit `pupil` in place, on the CPU; ready to evaluate."""
    causal = pupil.config.attention == "causal"
    device = torch.device("cpu")
    batches = Batches(
        data,
        fit_on,
        np.ones(len(data), np.float32),
        causal=causal,
        lines=lesson.lines,
        device=device,
    )
    rows = columns(pupil.schema, data.windows.rows)
    pupil.requires_grad_(True).eval()  # no dropout: there is a right answer for every event
    recipe = Recipe(rate=lesson.rate, weight_decay=0.0)
    optimiser = optimiser_of(pupil, recipe)
    some = choose_on[:: -(-len(choose_on) // CHOOSE_AT_MOST)]
    wanted = _logits(teacher, data, some)
    best, kept = _distance(_logits(pupil, data, some), wanted), _copy(pupil)
    progress(f"before learning: {best:.4f} from the teacher's log-odds")
    for epoch in range(lesson.epochs):
        steps = batches.epoch(np.random.default_rng((lesson.seed, epoch)))
        for at, events in enumerate(steps):
            done = (epoch + at / len(steps)) / lesson.epochs
            for group in optimiser.param_groups:
                group["lr"] = lesson.rate * 0.5 * (1 + math.cos(math.pi * done))
            step = batches.step(events)
            window = rows.gather(step.rows)
            chance = torch.Generator().manual_seed(_seed(lesson.seed, epoch, at))
            salt = pupil.salts(len(events), chance)
            loss = _loss(pupil, teacher, window, step.lengths, step.weight, salt)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
            optimiser.step()
        found = _distance(_logits(pupil, data, some), wanted)
        progress(f"epoch {epoch + 1}/{lesson.epochs}: {found:.4f} from the teacher's log-odds")
        if found < best:
            best, kept = found, _copy(pupil)
    pupil.load_state_dict(kept)
    pupil.requires_grad_(False)
    pupil.typical.copy_(typical_input(pupil, data, fit_on, lesson.seed))
    return pupil


def _loss(
    pupil: Network,
    teacher: Network,
    window: Columns,
    lengths: Tensor,
    weight: Tensor,
    salt: Tensor,
) -> Tensor:
    described = pupil.describe(window)
    with torch.no_grad():
        wanted, guesses = _said(teacher, window, described, lengths, salt)
    scored, own_guesses = _said(pupil, window, described, lengths, salt)
    counts = weight * (1 + _UNUSUAL * wanted.amax(2).sigmoid())
    each = F.smooth_l1_loss(scored, wanted.clamp(-_MOST, _MOST), reduction="none").mean(2)
    share = counts.sum().clamp(min=1e-9)
    loss = (each * counts).sum() / share
    for guess, right in zip(own_guesses, guesses, strict=True):
        nats = -(right.softmax(2) * guess.log_softmax(2)).sum(2)
        loss = loss + _GUESSES * (nats * weight).sum() / (
            weight.sum().clamp(min=1e-9) * len(guesses)
        )
    return loss


def _said(
    network: Network, window: Columns, described: Tensor, lengths: Tensor, salt: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """(lines, events, tasks) logits, and (lines, events, classes) of each guessed field."""
    inputs = network.inputs(window, described, salt)
    tokens, own = network.embed(inputs)
    states = network.encode(tokens, lengths)
    if network.config.attention == "causal":
        past = network.no_past.expand(len(states), 1, -1)
        known = torch.cat([past, states[:, :-1]], 1)
    else:
        known = network.encode(network.embed(inputs, counted=False)[0], lengths)
    return network.logits(states, own), network.guesses(known)


def _logits(network: Network, data: Dataset, events: Ints) -> NDArray[np.float32]:
    found = run(network, data.windows.take(events), torch.device("cpu")).logits
    own: NDArray[np.float32] = found[np.arange(len(events)), data.task[events]]
    return own.clip(-_MOST, _MOST)


def _distance(scored: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Mean difference; what is unusual to the teacher counts more."""
    counts = 1 + _UNUSUAL / (1 + np.exp(-wanted))
    return float((np.abs(scored - wanted) * counts).sum() / counts.sum())


def _seed(*of: int) -> int:
    return xxhash.xxh3_64_intdigest(repr(of).encode()) >> 33


def _copy(network: Network) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}
