"""A network over windows: raw scores and surprise of each window's own event.

The one way from windows to numbers: the scorer, the evaluation of training and the golden windows
take it. Pure but for the device. A score does not depend on what else is in the batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from models.features import Columns, columns
from models.network import Network
from models.packing import Pass, passes
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


def mixed_precision(device: torch.device) -> Any:
    """bf16 on CUDA, nothing on the CPU."""
    on_cuda = device.type == "cuda"
    return torch.autocast("cuda", torch.bfloat16) if on_cuda else nullcontext()


def run(network: Network, windows: Windows, device: torch.device, budget: int = 0) -> Raw:
    """Score every window; the caller has seen to it that they are sound."""
    logits = np.empty((len(windows), len(network.heads)), np.float32)
    surprise = np.empty(len(windows), np.float32)
    shared = network.config.attention == "causal"
    with torch.inference_mode():
        rows = columns(network.schema, windows.rows).to(device)
        found = [
            (one, *_run_pass(network, rows, one, device))
            for one in passes(windows, budget or TOKENS[device.type], shared)
        ]
        for one, some_logits, some_surprise in found:  # one wait for the device, after all passes
            logits[one.windows] = some_logits.cpu().numpy()
            surprise[one.windows] = some_surprise.cpu().numpy()
    return Raw(logits, surprise)


def _run_pass(
    network: Network, rows: Columns, one: Pass, device: torch.device
) -> tuple[Tensor, Tensor]:
    window = rows.gather(torch.from_numpy(one.index).to(device))
    lengths = torch.from_numpy(one.lengths).to(device)
    line = torch.from_numpy(one.line).to(device)
    place = torch.from_numpy(one.place).to(device)
    described = network.describe(window)
    with mixed_precision(device):
        inputs = network.inputs(window, described)
        tokens, own = network.embed(inputs)
        previous = (place - 1).clamp(min=0)
        if network.config.attention == "causal":
            read = network.encode_at(
                tokens, lengths, torch.cat([line, line]), torch.cat([place, previous])
            )
            state, known = read.chunk(2)
            known = known.where((place > 0)[:, None], network.no_past.to(known.dtype))
        else:
            state = network.encode_at(tokens, lengths, line, place)
            bare, _ = network.embed(inputs, counted=False)
            known = network.encode_at(bare, lengths, line, place)
        logits = network.logits(state, own[line, place])
        guesses = network.guesses(known)
    before = window.hashes[line, previous] * (place > 0)[:, None]
    classes = network.classes(
        window.type[line, place], window.hashes[line, place], before, described[line, place]
    )
    return logits, field_surprise(guesses, classes).sum(1)
