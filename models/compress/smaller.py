"""Each member of a bundle made smaller, or kept, and in words which of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

import torch
from msgspec import Struct, structs

from models.compress.int8 import quantised
from models.compress.prune import importance, pruned
from models.compress.teach import Lesson, teach
from models.dataset import Dataset
from models.encoders import PRESETS, Size
from models.members import Members
from models.network import Network
from models.training.recipe import rate_for
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

How = Literal["int8", "prune", "distil"]
HOWS: Final[tuple[str, ...]] = get_args(How)

_TREES: Final = "kept: trees are small and fast as they are"
_EPOCHS: Final[Mapping[How, int]] = {"int8": 0, "prune": 4, "distil": 12}

Progress = Callable[[str], None]


class Way(Struct, frozen=True, kw_only=True):
    """`keep`: share of heads and neurons; `size`: of the pupil, as `parse_size` has it."""

    how: How = "int8"
    keep: float = 0.5
    size: Size | None = None  # None: the next smaller preset, or half as wide
    epochs: int | None = None  # of learning from the whole; None: as is usual
    seed: int = 0


class Made(Struct, frozen=True):
    networks: Mapping[str, Network]  # the new ones, on the CPU
    said: dict[str, str]  # of every member


def smaller(
    members: Members,
    data: Dataset,
    fit_on: Ints,
    choose_on: Ints,
    way: Way,
    progress: Progress = lambda _: None,
) -> Made:
    """Raises Misconfigured if there is nothing that could be made smaller in this way."""
    made: dict[str, Network] = {}
    said: dict[str, str] = {}
    for name, network in members.encoders.items():
        progress(f"{way.how}: {name}")
        found, said[name] = _one(network, data, fit_on, choose_on, way, progress)
        if found is not None:
            made[name] = found
    if not made:
        raise Misconfigured(
            f"there is nothing to {way.how} here: "
            + "; ".join(f"{name} is {what}" for name, what in said.items())
        )
    for name, look in members.looks(members.names).items():
        said[name] = f"kept: its trees go on hearing {look.source}, on the old scale"
    return Made(made, {name: said.get(name, _TREES) for name in members.names})


def parse_size(text: str) -> Size:
    """`tiny`, or `64x2x2`: hidden, layers, heads. Raises Misconfigured."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        hidden, layers, heads = (int(part) for part in text.split("x"))
    except ValueError:
        hidden = layers = heads = 0
    if min(hidden, layers, heads) < 1 or hidden % heads:
        raise Misconfigured(
            f"there is no size {text!r}: choose {', '.join(PRESETS)}, or write hidden x layers x "
            "heads, such as 64x2x2; heads must divide hidden"
        )
    return Size(hidden, layers, heads)


def _one(
    network: Network, data: Dataset, fit_on: Ints, choose_on: Ints, way: Way, progress: Progress
) -> tuple[Network | None, str]:
    """A smaller network, or None, and what became of it."""
    config = network.config
    if way.how == "int8":
        kept = ", but for its recurrence" if config.encoder == "gru" else ""
        return quantised(network), f"int8{kept}"
    if not len(fit_on):
        raise Misconfigured("there is no event to learn from: give events of more users")
    epochs = _EPOCHS[way.how] if way.epochs is None else way.epochs
    if way.how == "prune":
        if config.encoder != "bert":
            return None, f"kept: only a BERT has heads to take out, not a {config.encoder}"
        found = pruned(network, importance(network, data, fit_on, way.seed), way.keep)
        rate = rate_for(config.size.hidden, warm=True)
        told = _shape(found.config.size)
    else:
        size = way.size or _next(config.size)
        if size.hidden * size.layers >= config.size.hidden * config.size.layers:
            return None, f"kept: {_shape(config.size)} is not larger than {_shape(size)}"
        torch.manual_seed(way.seed)
        found = Network(network.schema, structs.replace(config, size=size), network.statistics)
        rate = 2 * rate_for(size.hidden, warm=False)
        told = _shape(size)
    lesson = Lesson(epochs=epochs, rate=rate, seed=way.seed)
    taught = teach(found, network, data, fit_on, choose_on, lesson, progress)
    return taught, f"{_shape(config.size)} -> {told}"


def _next(size: Size) -> Size:
    below = [preset for preset in PRESETS.values() if preset.hidden < size.hidden]
    if below:
        return max(below, key=lambda preset: preset.hidden)
    return Size(size.hidden // 2, size.layers, size.heads)


def _shape(size: Size) -> str:
    neurons = size.feed_forward or 4 * size.hidden
    return f"hidden {size.hidden}, layers {size.layers}, heads {size.heads}, neurons {neurons}"
