"""The network: an event's fields and numbers -> one token -> hidden states -> heads.

Knows windows as tensors alone; nothing of files, training or devices. Windows are left-aligned.
With causal attention (the default) a position reads nothing right of it, so filling needs no mask,
and a window that begins another one is read off the longer one's states.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from msgspec import Struct
from torch import Tensor, nn

from models import encoders
from models.encoders import PRESETS, Attention, NetworkConfig, Size
from models.features import RELATIONS, Columns, describe, numbers, relations
from models.schema import Schema

__all__ = ["PRESETS", "Attention", "Hidden", "Network", "NetworkConfig", "Size", "Statistics"]

_TYPE_WIDTH: Final = 16
_SALT_BITS: Final = 31


class Statistics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What training events look like; from the fit part alone."""

    edges: tuple[tuple[float, ...], ...]  # a number's ascending edges of the piecewise-linear code
    bins: dict[str, tuple[float, ...]]  # number -> inner edges of its classes, for guessed numbers
    expected: tuple[tuple[float, float], ...]  # a number's usual range, 5 to 95 %
    type_shares: tuple[float, ...]  # in the order of the types


class Hidden(NamedTuple):
    """(windows, events, hidden) each."""

    states: Tensor
    own: Tensor  # the event's own numbers, embedded


class Network(nn.Module):
    def __init__(self, schema: Schema, config: NetworkConfig, statistics: Statistics) -> None:
        super().__init__()
        self.schema, self.config, self.statistics = schema, config, statistics
        self.numbers = numbers(schema)
        hidden = config.size.hidden
        self._bits = [f.bits for f in schema.of_kind("category")]
        types = len(schema.types) + 1

        low, scale = _codes(statistics)
        self.bins = low.shape[1]
        self._shift: Tensor
        self._scale: Tensor
        self._own: Tensor
        self.typical: Tensor  # the mean input of normal events; reasons are told against it
        self.register_buffer("_shift", -low * scale, persistent=False)
        self.register_buffer("_scale", scale, persistent=False)
        own = torch.tensor([n.own for n in self.numbers], dtype=torch.float32)
        self.register_buffer("_own", self._by_code(own), persistent=False)
        self.task_of_type: Tensor
        self.register_buffer("task_of_type", torch.tensor(schema.task_of_type), persistent=False)

        self.type_embedding = nn.Embedding(types, _TYPE_WIDTH)
        self.raw_width = _TYPE_WIDTH + sum(self._bits)
        self.code_width = len(self.numbers) * (self.bins + 1)
        self.raw_input = nn.Linear(self.raw_width, hidden)
        self.code_input = nn.Linear(self.code_width, hidden)
        self.mask_token = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("typical", torch.zeros(self.raw_width + self.code_width))
        self.add_module(config.encoder, encoders.make(config))

        self.trunk = nn.Sequential(
            nn.LayerNorm(2 * hidden),
            nn.Linear(2 * hidden, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.ModuleDict({task: nn.Linear(hidden, 1) for task in schema.task_names})

        self._guessed = _guessed(schema, statistics)
        for at, edges in enumerate(statistics.bins.values()):
            self.register_buffer(f"_edges_{at}", torch.tensor(edges), persistent=False)
        self.no_past = nn.Parameter(torch.zeros(hidden))  # stands for the state before a window
        self.guess_trunk = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.guess_head = nn.Linear(hidden, sum(self._guessed.values()))

    # The input layer

    def describe(self, window: Columns) -> Tensor:
        """(windows, events, numbers)."""
        return describe(self.schema, window)

    def inputs(self, window: Columns, described: Tensor, salt: Tensor | None = None) -> Tensor:
        """(windows, events, inputs): all that is known of an event, as one vector.

        A hash stands for itself only by its equality with others: its bits are the code, and in
        training a `salt` (windows, categories) changes them, so that no name can be learnt.
        """
        parts = [self.type_embedding(window.type)]
        for at, bits in enumerate(self._bits):
            hashed = window.hashes[:, :, at]
            salted = hashed if salt is None else hashed ^ salt[:, at, None]
            places = torch.arange(bits, device=hashed.device, dtype=torch.int32)
            code = (salted[:, :, None] >> places & 1).float() - 0.5
            parts.append(code * (hashed != 0)[:, :, None])
        missing = described.isnan()
        filled = described.masked_fill(missing, -1e9)
        codes = torch.addcmul(self._shift, filled[:, :, :, None], self._scale).clamp_(0, 1)
        return torch.cat([*parts, codes.flatten(2), missing.float()], 2)

    def embed(self, inputs: Tensor, counted: bool = True) -> tuple[Tensor, Tensor]:
        """Tokens, and the part of them that comes from numbers. Not `counted`: own numbers only."""
        raw, codes = inputs[:, :, : self.raw_width], inputs[:, :, self.raw_width :]
        own = self.code_input(codes if counted else codes * self._own)
        return self.raw_input(raw) + own, own

    def cells(self) -> tuple[list[str], Tensor]:
        """What a person would call each part of `inputs`: names, and (inputs,) the name's index."""
        categories = self.schema.of_kind("category")
        of_input = ["type"] * _TYPE_WIDTH
        for f in categories:
            of_input += [f.title] * f.bits
        for n in self.numbers:
            of_input += [n.cell] * self.bins
        of_input += [n.cell for n in self.numbers]
        names = list(dict.fromkeys(of_input))
        place = {name: at for at, name in enumerate(names)}
        return names, torch.tensor([place[name] for name in of_input])

    def number_dropout(self, inputs: Tensor, kept: Tensor) -> Tensor:
        """Some numbers of some windows left out, that none is relied on alone.

        `kept` (windows, numbers): 1, or 0 where one is left out.
        """
        raw = kept.new_ones(len(kept), self.raw_width)
        return inputs * torch.cat([raw, self._by_code(kept)], 1)[:, None]

    def salts(self, count: int, generator: torch.Generator) -> Tensor:
        """(windows, categories) int32, a random change of names for each window."""
        shape, place = (count, len(self._bits)), generator.device
        drawn = torch.randint(1 << _SALT_BITS, shape, generator=generator, device=place)
        limits = [(1 << min(bits, _SALT_BITS)) - 1 for bits in self._bits]
        return (drawn & torch.tensor(limits, device=place)).int()

    @property
    def codes(self) -> tuple[Tensor, Tensor]:
        """(numbers, bins) shift and scale of a number's codes."""
        return self._shift, self._scale

    # The encoder and its heads

    @property
    def encoder(self) -> Any:
        """The module between tokens and states, named after its kind."""
        return self.get_submodule(self.config.encoder)

    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(windows, events, hidden)."""
        return encoders.states(self.config, self.encoder, tokens, lengths)

    def encode_at(self, tokens: Tensor, lengths: Tensor, line: Tensor, place: Tensor) -> Tensor:
        """(read, hidden): `encode` at (line, place), without the rest where that is cheaper."""
        return encoders.states_at(self.config, self.encoder, tokens, lengths, line, place)

    def forward(self, window: Columns, lengths: Tensor) -> tuple[Hidden, Tensor]:
        """Hidden states of each event, and what was described of it."""
        described = self.describe(window)
        tokens, own = self.embed(self.inputs(window, described))
        return Hidden(self.encode(tokens, lengths), own), described

    def logits(self, states: Tensor, own: Tensor) -> Tensor:
        """(..., tasks): how anomalous the event is, under each task."""
        found = self.trunk(torch.cat([states, own], -1))
        return torch.cat([head(found) for head in self.heads.values()], -1).float()

    # Guessing events: pre-training and surprise

    @property
    def guessed(self) -> dict[str, int]:
        """What is guessed of an event: name -> number of classes."""
        return self._guessed

    def guesses(self, states: Tensor) -> list[Tensor]:
        """For each guessed field (..., classes): of the event after a state, or its own."""
        found = self.guess_head(self.guess_trunk(states)).float()
        return list(found.split(list(self._guessed.values()), -1))

    def classes(self, type_: Tensor, hashes: Tensor, before: Tensor, described: Tensor) -> Tensor:
        """(..., guessed fields): true classes; `before` has the hashes of the event before."""
        at = {n.name: place for place, n in enumerate(self.numbers)}
        found = [type_, *relations(self.schema, hashes, before, described).unbind(-1)]
        for number, name in enumerate(self.statistics.bins):
            value, edges = described[..., at[name]], self.get_buffer(f"_edges_{number}")
            # no torch.bucketize: Triton 3.6 cannot compile what PyTorch 2.11 makes of it
            place_of = (edges < value[..., None]).sum(-1) + 1
            found.append(place_of.where(~value.isnan(), 0))
        return torch.stack(found, -1)

    def _by_code(self, of_number: Tensor) -> Tensor:
        """(..., numbers) -> (..., codes): a number's value at its bins, and its missing flag."""
        return torch.cat([of_number.repeat_interleave(self.bins, -1), of_number], -1)


def _codes(statistics: Statistics) -> tuple[Tensor, Tensor]:
    edges = torch.tensor(statistics.edges, dtype=torch.float64)
    return edges[:, :-1].float(), (1 / edges.diff(dim=1)).float()


def _guessed(schema: Schema, statistics: Statistics) -> dict[str, int]:
    related = {f.name: RELATIONS for f in schema.of_kind("category")}
    binned = {name: len(edges) + 2 for name, edges in statistics.bins.items()}
    return {"type": len(schema.types) + 1, **related, **binned}
