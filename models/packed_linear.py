"""Linear layers that are faster on a CPU: weights packed once, products by oneDNN.

PyTorch multiplies fp32 matrices on a CPU by MKL, which on AMD's runs at less than half of what
oneDNN, in PyTorch as well, does (docs/performance.md). For networks whose weights stay as they are,
to score and to explain: while weights are learnt, on a GPU and in other types all is as before. The
functions are not public; where a PyTorch has none of these names, all is as before, too.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_OPS: Final[Any] = torch.ops.mkldnn
FEWEST: Final = 64  # rows; below it there is little to gain
POSSIBLE: Final = torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
    hasattr(_OPS, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)


class PackedLinear(nn.Linear):
    """With the parameters of another one."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__(like.in_features, like.out_features, like.bias is not None, "meta")
        self.weight, self.bias = like.weight, like.bias
        self._packed: tuple[object, Tensor, Tensor] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight, learns = self.weight, torch.is_grad_enabled()
        plain = inputs.dtype == weight.dtype == torch.float32 and weight.device.type == "cpu"
        if not plain or inputs.numel() < FEWEST * self.in_features:
            return super().forward(inputs)
        if learns and weight.requires_grad:
            return super().forward(inputs)
        if learns and inputs.requires_grad:
            found: Tensor = _Product.apply(inputs, self)
            return found
        return _product(inputs, self.packed()[0], self.bias)

    def packed(self) -> tuple[Tensor, Tensor]:
        """The weights, and turned round for the way back."""
        weight = self.weight.detach()
        state = weight.data_ptr(), 0 if weight.is_inference() else self.weight._version
        if self._packed is None or self._packed[0] != state:
            there = _OPS._reorder_linear_weight(weight, None)
            back = _OPS._reorder_linear_weight(weight.t().contiguous(), None)
            self._packed = state, there, back
        return self._packed[1:]


class _Product(torch.autograd.Function):
    """With the gradient of the inputs alone."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return _product(inputs, layer.packed()[0], layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _product(gradients[0], ctx.layer.packed()[1], None), None


def _product(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    rows = inputs.numel() // inputs.shape[-1]
    filled = F.pad(inputs.reshape(rows, -1), (0, 0, 0, rounded(rows) - rows))
    found: Tensor = _OPS._linear_pointwise(filled, packed, bias, "none", [None], None)
    return found[:rows].view(*inputs.shape[:-1], -1)


def rounded(rows: int) -> int:
    """Up to one of eight sizes an octave: oneDNN compiles a kernel for each, which takes 2 ms."""
    step = max(16, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step


def packed(network: nn.Module) -> None:
    """Put such layers in the place of the linear ones of a network."""
    if not POSSIBLE:
        return
    for name, layer in list(network.named_modules()):
        if type(layer) is nn.Linear:
            network.set_submodule(name, PackedLinear(layer))
