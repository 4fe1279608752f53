"""What each input of each event adds to a score, against the typical input of a normal event.

    gradient    gradient times (input - typical), at one point of the straight way from typical to
                the window: one backward pass
    path        the gradient averaged along the whole way (integrated gradients): it sums to what
                the raw score rose, within `TOLERANCE`

At the window itself the score has mostly levelled off, and the gradient says little; at `AT` one
pass does nearly as well as the path (`scripts/measure_explanations.py`). Pure but for the device.
Says what the network leant on, not what the user meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from models.features import columns
from models.inference import TOKENS, mixed_precision
from models.network import Network
from models.packing import Pass, passes
from stream_app.core.window import Ints, Windows

Method = Literal["gradient", "path"]
Floats64 = NDArray[np.float64]

AT: Final = 0.7  # of the way; chosen on simulated shops that nothing is reported on
TOLERANCE: Final = 0.01  # of what the raw score rose, or of 1 where it hardly did
_STEPS: Final = (8, 16, 32, 64, 128, 256, 512)  # points on the path, until the sum is right


class Attributed(Struct, frozen=True):
    """One pass of windows; tensors are on the device, left-aligned."""

    of: Pass
    described: Tensor  # (windows, events, numbers)
    by_input: Tensor  # (windows, events, inputs) what each adds to the raw score
    rise: Floats64  # (windows,) raw score less that of an all typical window; NaN for gradient
    off: Floats64  # (windows,) |sum of by_input - rise|; NaN for gradient


def attribute(
    network: Network,
    windows: Windows,
    tasks: Sequence[int] | Ints,
    device: torch.device,
    method: Method = "gradient",
    at: float = AT,
) -> Iterator[Attributed]:
    """A pass of windows at a time.

    `tasks`: whose score is explained, for each window. `at`: the gradient's point, 1 the window.
    """
    rows = columns(network.schema, windows.rows).to(device)
    task = np.asarray(tasks, np.int64)
    for one in passes(windows, TOKENS[device.type], shared=False):
        window = rows.gather(torch.from_numpy(one.index).to(device))
        lengths = torch.from_numpy(one.lengths).to(device)
        asked = torch.from_numpy(task[one.windows]).to(device)
        described = network.describe(window)
        inputs = network.inputs(window, described).detach()
        if method == "path":
            yield _by_path(network, one, inputs, described, lengths, asked)
            continue
        change = inputs - network.typical
        with mixed_precision(device):
            gradient = _slope(network, network.typical + at * change, lengths, asked)
        unknown = np.full(len(lengths), np.nan)
        yield Attributed(one, described, gradient * change, unknown, unknown)


def raw_scores(network: Network, inputs: Tensor, lengths: Tensor, tasks: Tensor) -> Tensor:
    """(windows,) the raw score of each window's last event, from (windows, events, inputs)."""
    line = torch.arange(len(inputs), device=inputs.device)
    tokens, own = network.embed(inputs)
    states = network.encode(tokens, lengths)
    scored = network.logits(states[line, lengths - 1], own[line, lengths - 1])
    return scored[line, tasks]


def by_cell(network: Network, by_input: Tensor) -> Tensor:
    """(..., inputs) -> (..., cells), in the order of `Network.cells`."""
    cells, of_input = network.cells()
    found = by_input.new_zeros(*by_input.shape[:-1], len(cells), dtype=torch.float32)
    return found.index_add_(-1, of_input.to(by_input.device), by_input.float())


def _by_path(
    network: Network, one: Pass, inputs: Tensor, described: Tensor, lengths: Tensor, tasks: Tensor
) -> Attributed:
    """Gauss-Legendre points on the way, doubled for the windows whose sum is not right yet."""
    change = inputs - network.typical
    typical = network.typical.expand_as(inputs).contiguous()
    with torch.no_grad():
        rise = raw_scores(network, inputs, lengths, tasks).double()
        rise -= raw_scores(network, typical, lengths, tasks).double()
    by_input = torch.zeros_like(inputs)
    off = torch.full_like(rise, torch.inf)
    for steps in _STEPS:
        left = (off > TOLERANCE * rise.abs().clamp(min=1)).nonzero()[:, 0]
        if not len(left):
            break
        mean = torch.zeros_like(change[left])
        places, weights = np.polynomial.legendre.leggauss(steps)
        for place, weight in zip(places, weights, strict=True):
            point = network.typical + float(place + 1) / 2 * change[left]
            gradient = _slope(network, point, lengths[left], tasks[left])
            mean += gradient * float(weight / 2)
        by_input[left] = mean * change[left]
        off[left] = (by_input[left].double().sum((1, 2)) - rise[left]).abs()
    return Attributed(one, described, by_input, rise.cpu().numpy(), off.cpu().numpy())


def _slope(network: Network, inputs: Tensor, lengths: Tensor, tasks: Tensor) -> Tensor:
    """The gradient of each window's raw score by its inputs."""
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        total = raw_scores(network, inputs, lengths, tasks).sum()
        (gradient,) = torch.autograd.grad(total, inputs)
    return gradient
