"""Attention heads and feed-forward neurons of a BERT taken out, those that matter least.

A part matters by how much of the scores hangs on it: its output times the gradient of the event's
own logit, without its sign, over events of the shop. No labels are needed. Every layer keeps the
same number, so what is left is a BERT again; it then learns from the whole one to do without the
rest (`teach`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct, structs
from torch import Tensor

from models.dataset import Dataset
from models.features import columns
from models.network import Network
from models.packing import passes
from stream_app.core.window import Ints

_ROUND: Final = 8  # neurons kept are a multiple of it, as processors like it
_LOOKED_AT: Final = 4_000  # windows
_BUDGET: Final = 2_048  # events a pass


class Importance(Struct, frozen=True):
    """Of each part, layer by layer."""

    heads: Tensor  # (layers, heads)
    neurons: Tensor  # (layers, neurons)


def importance(network: Network, data: Dataset, events: Ints, seed: int = 0) -> Importance:
    """Of the parts of a BERT, over the windows of some of `events`."""
    rng = np.random.default_rng(seed)
    some = rng.choice(events, min(len(events), _LOOKED_AT), replace=False)
    windows = data.windows.take(np.sort(some))
    layers, size = network.encoder.encoder.layer, network.config.size
    width = size.head_width or size.hidden // size.heads
    heads = torch.zeros(len(layers), size.heads)
    neurons = torch.zeros(len(layers), layers[0].output.dense.in_features)
    rows = columns(network.schema, windows.rows)
    with _Heard(layers) as heard, torch.enable_grad():
        for one in passes(windows, _BUDGET, network.config.attention == "causal"):
            window = rows.gather(torch.from_numpy(one.index))
            at = torch.from_numpy(one.line), torch.from_numpy(one.place)
            inputs = network.inputs(window, network.describe(window)).detach().requires_grad_()
            tokens, own = network.embed(inputs)
            states = network.encode(tokens, torch.from_numpy(one.lengths))
            logits = network.logits(states[at], own[at])
            task = network.task_of_type[window.type[at]]
            score = logits.gather(1, task[:, None]).sum()
            parts = [heard.inputs[key] for key in heard.keys]
            gradients = torch.autograd.grad(score, parts)
            effects = [
                (p * g).detach().flatten(0, 1) for p, g in zip(parts, gradients, strict=True)
            ]
            for layer in range(len(layers)):
                by_head = effects[2 * layer].view(-1, size.heads, width).sum(2)
                heads[layer] += by_head.abs().sum(0)
                neurons[layer] += effects[2 * layer + 1].abs().sum(0)
    return Importance(heads, neurons)


def pruned(network: Network, found: Importance, keep: float) -> Network:
    """With the share `keep` of heads and of neurons, at least one head. On the CPU."""
    layers, heads = found.heads.shape
    size = network.config.size
    width = size.head_width or size.hidden // size.heads
    kept_heads = max(1, round(keep * heads))
    neurons = found.neurons.shape[1]
    kept_neurons = min(neurons, max(_ROUND, round(keep * neurons / _ROUND) * _ROUND))
    smaller = structs.replace(size, heads=kept_heads, feed_forward=kept_neurons, head_width=width)
    config = structs.replace(network.config, size=smaller)
    state = dict(network.state_dict())
    for layer in range(layers):
        which = _best(found.heads[layer], kept_heads)
        of_heads = (which[:, None] * width + torch.arange(width)).flatten()
        of_neurons = _best(found.neurons[layer], kept_neurons)
        prefix = f"bert.encoder.layer.{layer}."
        for name in ("query", "key", "value"):
            _take(state, f"{prefix}attention.self.{name}", of_heads)
        _take(state, f"{prefix}intermediate.dense", of_neurons)
        for name, some in (("attention.output.dense", of_heads), ("output.dense", of_neurons)):
            state[f"{prefix}{name}.weight"] = state[f"{prefix}{name}.weight"][:, some]
    made = Network(network.schema, config, network.statistics)
    made.load_state_dict(state)
    return made.eval()


class _Heard:
    """What the layers that gather heads, and neurons, are given in a pass."""

    def __init__(self, layers: Any) -> None:
        self.inputs: dict[int, Tensor] = {}
        gather = [d for one in layers for d in (one.attention.output.dense, one.output.dense)]
        self.keys = range(len(gather))
        self._hooks = [
            part.register_forward_pre_hook(lambda _, given, at=at: self._hear(at, given[0]))
            for at, part in enumerate(gather)
        ]

    def _hear(self, at: int, given: Tensor) -> None:
        self.inputs[at] = given

    def __enter__(self) -> _Heard:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _best(of: Tensor, count: int) -> Tensor:
    """Places of the `count` largest, ascending."""
    return of.argsort(descending=True, stable=True)[:count].sort().values


def _take(state: dict[str, Tensor], layer: str, rows: Tensor) -> None:
    for name in ("weight", "bias"):
        state[f"{layer}.{name}"] = state[f"{layer}.{name}"][rows]
