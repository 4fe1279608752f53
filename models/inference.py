"""A network over windows: raw scores and surprise of each window's own event.

The one way from windows to numbers: the scorer, the evaluation of training and the golden windows
take it, alone or with the other members of a bundle (`committee`). Pure but for the device. A score
does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from models.features import Columns, columns, describe
from models.network import Network
from models.packing import Pass, passes
from models.schema import Schema
from models.surprise import field_surprise
from stream_app.core.score import Floats
from stream_app.core.window import Windows

TOKENS: Final = {
    "cpu": 2048,
    "cuda": 131_072,
}  # events a pass; more leaves the caches, or the memory


class Raw(Struct, frozen=True):
    """One row a window."""

    logits: NDArray[np.float32]  # (windows, tasks)
    surprise: Floats  # (windows,)
    log_likelihood: Floats  # (windows,) of all its events, nats; NaN unless asked for


class Seen(NamedTuple):
    """A pass on the device, and what is described of its events."""

    window: Columns  # (lines, events)
    lengths: Tensor  # (lines,)
    line: Tensor  # (read,)
    place: Tensor  # (read,)
    described: Tensor  # (lines, events, numbers)


class Reading(NamedTuple):
    """What a network says of the events that are read; of every event of the pass if `whole`."""

    logits: Tensor  # (read, tasks)
    nats: Tensor  # (read,) surprise
    log_likelihood: Tensor | None  # (read,) of the events of its line up to there, nats
    whole: Tensor | None  # (lines, events, tasks) logits


def mixed_precision(device: torch.device) -> Any:
    """bf16 on CUDA, nothing on the CPU."""
    on_cuda = device.type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if on_cuda else nullcontext()


def run(
    network: Network,
    windows: Windows,
    device: torch.device,
    budget: int = 0,
    likelihood: bool = False,
) -> Raw:
    """Score every window; the caller has seen to it that they are sound.

    `likelihood`: tell that of the whole windows too, the sum of log P(event | those before it). A
    third slower on a CPU.
    """
    found = Raw(
        np.empty((len(windows), len(network.heads)), np.float32),
        np.empty(len(windows), np.float32),
        np.full(len(windows), np.nan, np.float32),
    )
    shared = network.config.attention == "causal"
    with torch.inference_mode():
        read = [
            (one, read_pass(network, seen, likelihood=likelihood))
            for one, seen in seen_passes(network.schema, windows, device, budget, shared)
        ]
        for one, said in read:  # one wait for the device, after all passes
            found.logits[one.windows] = said.logits.cpu().numpy()
            found.surprise[one.windows] = said.nats.cpu().numpy()
            if said.log_likelihood is not None:
                found.log_likelihood[one.windows] = said.log_likelihood.cpu().numpy()
    return found


def seen_passes(
    schema: Schema, windows: Windows, device: torch.device, budget: int, shared: bool
) -> Iterator[tuple[Pass, Seen]]:
    """Passes of at most `budget` events (0: as measured), described. `shared`: all is causal."""
    rows = columns(schema, windows.rows).to(device)
    for one in passes(windows, budget or TOKENS[device.type], shared):
        window = rows.gather(torch.from_numpy(one.index).to(device))
        lengths, line, place = (
            torch.from_numpy(part).to(device) for part in (one.lengths, one.line, one.place)
        )
        yield one, Seen(window, lengths, line, place, describe(schema, window))


def read_pass(
    network: Network, seen: Seen, whole: bool = False, likelihood: bool = False
) -> Reading:
    """`whole`: ask about every event, not only about those to be read; `likelihood`: how likely
    every one of them was, too.
    """
    at = seen.line, seen.place
    with mixed_precision(seen.line.device):
        inputs = network.inputs(seen.window, seen.described)
        tokens, own = network.embed(inputs)
        if not (whole or likelihood):
            states, known = _states_at(network, inputs, tokens, seen)
            logits = network.logits(states, own[at])
            return Reading(logits, nats_of(network, seen, known), None, None)
        states, known = _states(network, inputs, tokens, seen)
        every = network.logits(states, own)
        if not likelihood:
            return Reading(every[at], nats_of(network, seen, known[at]), None, every)
        nats = nats_of(network, seen, known, everywhere=True)
    return Reading(every[at], nats[at], -nats.cumsum(1)[at], every)


def logits_of(network: Network, seen: Seen, whole: bool = False) -> Tensor:
    """(read, tasks), or of every event (lines, events, tasks); and nothing else."""
    at = seen.line, seen.place
    with mixed_precision(seen.line.device):
        tokens, own = network.embed(network.inputs(seen.window, seen.described))
        if whole:
            return network.logits(network.encode(tokens, seen.lengths), own)
        return network.logits(network.encode_at(tokens, seen.lengths, *at), own[at])


def _states_at(
    network: Network, inputs: Tensor, tokens: Tensor, seen: Seen
) -> tuple[Tensor, Tensor]:
    """(read, hidden) each: the events' states, and those from which they are guessed."""
    lengths, line, place = seen.lengths, seen.line, seen.place
    if network.config.attention == "causal":
        previous = (place - 1).clamp(min=0)
        both = torch.cat([line, line]), torch.cat([place, previous])
        state, known = network.encode_at(tokens, lengths, *both).chunk(2)
        return state, known.where((place > 0)[:, None], network.no_past.to(known.dtype))
    bare, _ = network.embed(inputs, counted=False)
    parts = (network.encode_at(some, lengths, line, place) for some in (tokens, bare))
    return next(parts), next(parts)


def _states(network: Network, inputs: Tensor, tokens: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """The same of every event: (lines, events, hidden) each."""
    states = network.encode(tokens, seen.lengths)
    if network.config.attention == "causal":
        past = network.no_past.to(states.dtype).expand(len(states), 1, -1)
        return states, torch.cat([past, states[:, :-1]], 1)
    bare, _ = network.embed(inputs, counted=False)
    return states, network.encode(bare, seen.lengths)


def nats_of(network: Network, seen: Seen, known: Tensor, everywhere: bool = False) -> Tensor:
    """Surprise of the events that are read (read,), or of all (lines, events); `known` likewise."""
    window, described = seen.window, seen.described
    before = torch.nn.functional.pad(window.hashes[:, :-1], (0, 0, 1, 0))
    true = window.type, window.hashes, before, described
    if not everywhere:
        of_type, hashes, before, described = (part[seen.line, seen.place] for part in true)
        true = of_type, hashes, before, described
    classes = network.classes(*true).flatten(0, -2)
    guesses = [guess.flatten(0, -2) for guess in network.guesses(known)]
    return field_surprise(guesses, classes).sum(1).view(known.shape[:-1])
