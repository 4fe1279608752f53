"""Linear layers with int8 weights, a scale for each row of them; inputs are rounded as they come.

Each event's input has a scale of its own, and products of integers are exact, so a layer's output
does not depend on what else is in the batch. (PyTorch's own dynamic int8 has one scale for a whole
batch: there, a neighbour with large numbers makes all others coarser.)

Integers are for the CPU without gradients. On a GPU, and where reasons need gradients, weights are
multiplied out. A GRU's recurrence, embeddings, norms and the heads stay fp32.
"""

from __future__ import annotations

from typing import Final

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from models.network import Network, NetworkConfig, Statistics
from models.schema import Schema

_MOST: Final = 127
_LEAST: Final = 1e-12  # scale of a row of zeros
_HEADS: Final = "heads."


class Int8Linear(nn.Module):
    """`weight` (outputs, inputs) int8, to be multiplied by `scale` (outputs,)."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def fill(self, weight: Tensor, bias: Tensor | None) -> None:
        """Round `weight` (outputs, inputs)."""
        codes, scale = rounded(weight.detach().float())
        self.weight.copy_(codes)
        self.scale.copy_(scale[:, 0])
        if bias is not None:
            self.bias.copy_(bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if inputs.device.type != "cpu" or (torch.is_grad_enabled() and inputs.requires_grad):
            return F.linear(inputs, self.weight * self.scale[:, None], self.bias)
        codes, step = rounded(inputs.reshape(-1, inputs.shape[-1]))
        sums = torch._int_mm(codes, self.weight.t())
        found = torch.addcmul(self.bias, sums.float().mul_(step), self.scale)
        return found.view(*inputs.shape[:-1], -1)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, width) int8, and (rows, 1) what each row of them is to be multiplied by."""
    step = rows.abs().amax(1, keepdim=True).clamp_(min=_LEAST) / _MOST
    return (rows / step).round_().to(torch.int8), step


def network_of(schema: Schema, config: NetworkConfig, statistics: Statistics) -> Network:
    """A network whose layers hold what `config.weights` says, to be filled."""
    network = Network(schema, config, statistics)
    if config.weights == "int8":
        for name, layer in _linear(network).items():
            network.set_submodule(name, Int8Linear(*reversed(_weight(layer).shape)))
    return network


def quantised(network: Network) -> Network:
    """The same network with int8 weights, on the CPU."""
    config = structs.replace(network.config, weights="int8")
    found = network_of(network.schema, config, network.statistics)
    layers = _linear(network)
    rest = {k: v for k, v in network.state_dict().items() if k.rpartition(".")[0] not in layers}
    found.load_state_dict(rest, strict=False)
    for name, layer in layers.items():
        held = found.get_submodule(name)
        assert isinstance(held, Int8Linear)
        held.fill(_weight(layer), layer.bias)
    return found.eval().requires_grad_(False)


def _linear(network: Network) -> dict[str, nn.Linear | Conv1D]:
    """The layers to be rounded, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and not name.startswith(_HEADS)
    }


def _weight(layer: nn.Linear | Conv1D) -> Tensor:
    """(outputs, inputs)."""
    weight: Tensor = layer.weight.detach()
    return weight if isinstance(layer, nn.Linear) else weight.t()
