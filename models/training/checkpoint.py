"""What a training that was broken off goes on from: one file, written whole or not at all.

Tensors and a text, as safetensors: nothing is unpickled. There is no state of random numbers in it,
for those are functions of the seed and the place in the training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import safetensors
import torch
from msgspec import Struct
from safetensors.torch import save_file
from torch import Tensor, nn

from stream_app.core.errors import Misconfigured

_FILE: Final = "checkpoint.safetensors"
_PLACE: Final = "place"


class Place(Struct, frozen=True, kw_only=True):
    """How far it got."""

    phase: str
    epoch: int = 0  # epochs done
    step: int = 0  # steps of the next epoch that are done
    loss: float = 0.0  # summed over these steps
    best: float = -1.0  # average precision
    stale: int = 0  # epochs since
    finished: bool = False  # the phase
    seconds: float = 0.0
    steps: int = 0  # of all phases, where curves go on


class Checkpoint:
    """The newest state of one network's training, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def load(self) -> tuple[Place, dict[str, Tensor]] | None:
        """None if there is none. Raises Misconfigured if it is damaged."""
        if not self._path.exists():
            return None
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                place = msgspec.json.decode(file.metadata()[_PLACE], type=Place)
                return place, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 no dict
        except (OSError, KeyError, safetensors.SafetensorError, msgspec.MsgspecError) as error:
            raise Misconfigured(
                f"the training cannot go on: {self._path} is damaged. Begin anew with --fresh."
            ) from error

    def save(self, place: Place, tensors: Mapping[str, Tensor]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = self._path.with_suffix(".new")
        held = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(held, written, {_PLACE: msgspec.json.encode(place).decode()})
        os.replace(written, self._path)


def state_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and what the optimiser remembers of them, by name."""
    found = {f"network.{key}": value for key, value in network.state_dict().items()}
    for number, held in optimiser.state_dict()["state"].items():
        found |= {f"optimiser.{number}.{key}": value for key, value in held.items()}
    return found


def restore(
    network: nn.Module, optimiser: torch.optim.Optimizer, held: Mapping[str, Tensor]
) -> None:
    """Undo `state_of`. Raises RuntimeError if it is of another network."""
    network.load_state_dict(part(held, "network"))
    state: dict[int, dict[str, Any]] = {}
    for key, value in part(held, "optimiser").items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def part(held: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What is called `name.something`, by `something`."""
    return {k.removeprefix(f"{name}."): v for k, v in held.items() if k.startswith(f"{name}.")}
