"""The processes that train together, by accelerate: one, unless `torchrun` or `accelerate launch`
started several, on this host or on many.

All of them walk the same steps, each with its share of a step's lines, so how many there are hardly
changes what is learnt. The first one writes.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.extra import missing


class Processes:
    """`device`: auto, cpu or cuda has been settled; with CUDA each process has one of its own."""

    def __init__(self, device: torch.device) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState, PartialState
            from accelerate.utils import DistributedDataParallelKwargs
        except ImportError as error:
            raise missing("training", "accelerate") from error
        on_cpu = device.type == "cpu"
        held = PartialState._shared_state.get("device")
        if held is not None and (held.type == "cpu") != on_cpu:
            AcceleratorState._reset_state(True)  # it keeps the first device of a process for good
        # Heads rest while events are only guessed, and the mask token where nothing is masked.
        shared = DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[shared])
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: torch.nn.Module) -> Any:
        """The module with gradients that are means over all processes."""
        return self._accelerator.prepare_model(module) if self.count > 1 else module

    def share(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process' part; every process has one if there are enough."""
        return positions[self.rank :: self.count]

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def apart(self, module: Any) -> Any:
        """A context in which gradients are added up and not yet shared."""
        return self._accelerator.no_sync(module) if self.count > 1 else nullcontext()

    def mean(self, value: Tensor) -> float:
        if self.count > 1:
            value = self._accelerator.reduce(value.detach(), "mean")
        return float(value)

    def any(self, flag: bool) -> bool:
        """Whether it is true of one of them."""
        if self.count == 1:
            return flag
        return self.mean(torch.tensor(float(flag), device=self.device)) > 0

    def together(self, own: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """(count,) values in their order, from each process' `share` of them."""
        if self.count == 1:
            return own
        size = -(-count // self.count)
        held = torch.zeros(size, device=self.device)
        held[: len(own)] = torch.from_numpy(own)
        gathered = self._accelerator.gather(held).view(self.count, size).T.reshape(-1)
        found: NDArray[np.float32] = gathered[:count].cpu().numpy()
        return found

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()
