"""A causal BERT over windows that lie one after another, without filling: how a GPU reads them.

    words   (lines, longest)    raw rows of each line's window, left-aligned
    tokens  (tokens,)           the events of line 0, of line 1, ...; then what fills up the bucket
    read    (reads,)            tokens whose scores are asked for

Says what `inference.read_pass` says of the same windows, in bf16 (or fp8 in the linear layers). All
shapes follow from `Bucket`, so a pass can be compiled and recorded; `recorded` does. What fills up
a bucket is computed like the rest, mixes with nothing, and nobody reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.features import describe, unpacked
from models.inference import Seen, mixed_precision, nats_of
from models.network import Network

Precision = Literal["bf16", "fp8"]

LONGEST: Final = 64  # events of a window
_LINES, _READS = 20, 4  # tokens of a bucket for each line, for each event that is read
_WIDTHS: Final = (16, 32, 64, 128)  # of a head
_ALIGNED: Final = 8  # numbers of a row that a GPU multiplies together
_E4M3: Final = torch.float8_e4m3fn
_LARGEST: Final = 448.0  # of that form
_RAISED: Final = 8.0  # activations are of the order of 1; so small ones keep their digits


class Bucket(NamedTuple):
    """How much a pass can hold."""

    tokens: int

    @property
    def lines(self) -> int:
        return self.tokens // _LINES

    @property
    def reads(self) -> int:
        return self.tokens // _READS

    def holds(self, tokens: int, lines: int, reads: int) -> bool:
        return tokens <= self.tokens and lines <= self.lines and reads <= self.reads


class Linear(NamedTuple):
    weight: Tensor  # (outputs, inputs)
    bias: Tensor
    scale: Tensor | None = None  # (), of fp8


class Layer(NamedTuple):
    """Of a BertLayer."""

    qkv: Linear
    mix: Linear
    mix_norm: tuple[Tensor, Tensor]
    inner: Linear
    outer: Linear
    outer_norm: tuple[Tensor, Tensor]


class Inputs(NamedTuple):
    """`Network.inputs` and `Network.embed`, column by column: one kernel fills all of them."""

    types: Tensor  # (types, hidden) what a type adds
    category: Tensor  # (bits,) the category of each bit
    bit: Tensor  # (bits,)
    bits: Tensor  # (hidden, bits) weights
    number: Tensor  # (codes,) the number of each code
    shift: Tensor  # (codes,)
    scale: Tensor  # (codes,)
    absent: Tensor  # (codes,) 1 where the code says that its number is missing
    codes: Linear


def suits(network: Network) -> bool:
    """Whether `FlatBert` can read for this network."""
    config, size = network.config, network.config.size
    width = size.head_width or size.hidden // size.heads
    return (
        config.encoder == "bert"
        and config.attention == "causal"
        and config.weights == "float32"
        and config.activation == "gelu"
        and config.window <= LONGEST
        and width in _WIDTHS
    )


class FlatBert:
    """`compiled`: by torch.compile, its parts one by one, so that all layers are one program."""

    def __init__(
        self, network: Network, precision: Precision = "bf16", compiled: bool = True
    ) -> None:
        self.network = network
        self.words = network.schema.row.itemsize // 8
        self._half = torch.bfloat16 if network.typical.is_cuda else torch.float32
        self._inputs = _inputs(network, self._half)
        encoder = network.encoder.encoder
        self._layers = [_layer(layer, precision, self._half) for layer in encoder.layer]
        self._epsilon: float = network.encoder.config.layer_norm_eps
        self._heads = network.config.size.heads

        def ready(part: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(part, fullgraph=True) if compiled else part

        self._describe, self._embed, self._after, self._end, self._surprise, self._linear = (
            ready(part)
            for part in (
                self._described,
                self._embedded,
                self._layer_after,
                self._read,
                self._nats,
                self._multiplied,
            )
        )

    def read(
        self, words: Tensor, lengths: Tensor, token: Tensor, read: Tensor, likelihood: bool = False
    ) -> Tensor:
        """(reads, tasks + 1) float32: logits, and the surprise in nats; then, if asked for, the
        log-likelihood of the whole window up to there.

        `words` (lines, longest, words) int64, `lengths` (lines,) int64, 0 where there is no line;
        `token` (tokens,) = 0, 1, ...; `read` (reads,) int64.
        """
        from models.attention_kernel import attend

        ends = lengths.cumsum(0)
        line = torch.searchsorted(ends, token, right=True).clamp(max=len(lengths) - 1)
        last = min(words.shape[1], self.network.config.window) - 1  # filling has a place, too
        place = (token - (ends - lengths)[line]).clamp(0, last)
        begins = F.pad(ends, (1, 0)).int()
        window = unpacked(self.network.schema, words)
        _of_any_length(*window)
        described = self._describe(window)
        mine = described[line, place], window.type[line, place], window.hashes[line, place], place
        _of_any_length(*mine)
        known, own = self._embed(*mine)
        for layer in self._layers:
            _of_any_length(known)
            qkv = self._linear(known, layer.qkv)
            mixed = attend(qkv, begins, len(lengths), self._heads, words.shape[1])
            _of_any_length(mixed)
            known = self._after(known, mixed, layer)
        seen = Seen(window, lengths, line[read], place[read], described)
        _of_any_length(known, own, read, *seen[1:])
        found: Tensor = self._end(seen, known, own, read)
        if not likelihood:
            return found
        every = Seen(window, lengths, line, place, described)
        _of_any_length(known, token, *every[1:])
        nats = self._surprise(every, known, token).double()
        total, begin = nats.cumsum(0), read - seen.place
        told = total[begin] - nats[begin] - total[read]
        return torch.cat([found, told[:, None].float()], 1)

    def _described(self, window: Any) -> Tensor:
        return describe(self.network.schema, window)

    def _embedded(
        self, described: Tensor, type_: Tensor, hashes: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(tokens, hidden) twice: of all, and of the numbers alone."""
        inputs, embedded = self._inputs, self.network.encoder.embeddings
        numbers = described[:, inputs.number]
        missing = numbers.isnan()
        codes = torch.addcmul(inputs.shift, numbers.masked_fill(missing, -1e9), inputs.scale)
        codes = (codes.clamp(0, 1) + missing * inputs.absent).to(self._half)
        own = F.linear(codes, inputs.codes.weight, inputs.codes.bias)
        hashed = hashes[:, inputs.category]
        bits = ((hashed >> inputs.bit & 1) - 0.5) * (hashed != 0)
        token = F.linear(bits.to(self._half), inputs.bits).float() + inputs.types[type_] + own
        placed = token + embedded.position_embeddings.weight[place]
        placed = embedded.LayerNorm(placed + embedded.token_type_embeddings.weight[0])
        return placed.to(self._half), own

    def _layer_after(self, known: Tensor, mixed: Tensor, layer: Layer) -> Tensor:
        """The rest of a layer, after attention."""
        seen = self._normal(self._multiplied(mixed, layer.mix), known, layer.mix_norm)
        inner = self._active(seen, layer.inner)
        return self._normal(self._multiplied(inner, layer.outer), seen, layer.outer_norm)

    def _normal(self, found: Tensor, residual: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        both = found.float() + residual.float()
        return F.layer_norm(both, both.shape[1:], *norm, self._epsilon).to(found.dtype)

    def _active(self, inputs: Tensor, linear: Linear) -> Tensor:
        """GELU; on a GPU by its tanh, off by less than bf16 can tell, as part of the product."""
        if not inputs.is_cuda:
            return F.gelu(self._multiplied(inputs, linear))
        if linear.scale is None:
            return torch._addmm_activation(linear.bias, inputs, linear.weight.t(), use_gelu=True)
        found = self._multiplied(inputs, linear).float()
        return (found * torch.sigmoid(1.5957691216 * (found + 0.044715 * found**3))).to(self._half)

    def _multiplied(self, inputs: Tensor, linear: Linear) -> Tensor:
        if linear.scale is None:
            return F.linear(inputs, linear.weight, linear.bias)
        found: Tensor = torch._scaled_mm(
            (inputs.float() * _RAISED).clamp(-_LARGEST, _LARGEST).to(_E4M3),
            linear.weight.t(),
            scale_a=linear.scale.new_full((), 1 / _RAISED),
            scale_b=linear.scale,
            bias=linear.bias,
            out_dtype=self._half,
            use_fast_accum=True,
        )
        return found

    def _read(self, seen: Seen, states: Tensor, own: Tensor, read: Tensor) -> Tensor:
        network = self.network
        with mixed_precision(states.device):
            logits = network.logits(states[read], own[read])
        return torch.cat([logits.float(), self._nats(seen, states, read)[:, None]], 1)

    def _nats(self, seen: Seen, states: Tensor, read: Tensor) -> Tensor:
        """(reads,) float32: the surprise at these tokens."""
        network = self.network
        with mixed_precision(states.device):
            before = states[(read - 1).clamp(min=0)]
            known = before.where((seen.place > 0)[:, None], network.no_past.to(before.dtype))
            return nats_of(network, seen, known).float()


def _of_any_length(*tensors: Tensor) -> None:
    """As many lines, tokens or reads as a bucket has: compiled once for all of them."""
    for tensor in tensors:
        torch._dynamo.mark_dynamic(tensor, 0)


def _inputs(network: Network, half: torch.dtype) -> Inputs:
    device = network.typical.device
    bits = [f.bits for f in network.schema.of_kind("category")]
    width = network.raw_width - sum(bits)  # of a type
    raw, coded = network.raw_input, network.code_input
    shift, scale = network.codes
    count, each = shift.shape
    unused = -network.code_width % _ALIGNED

    def column(*parts: Tensor) -> Tensor:
        return F.pad(torch.cat([part.flatten().to(device) for part in parts]), (0, unused))

    none = torch.zeros(count)
    number = torch.arange(count)
    return Inputs(
        network.type_embedding.weight @ raw.weight[:, :width].t() + raw.bias,
        torch.arange(len(bits), device=device).repeat_interleave(torch.tensor(bits, device=device)),
        torch.cat([torch.arange(n, dtype=torch.int32, device=device) for n in bits]),
        raw.weight[:, width:].to(half).contiguous(),
        column(number.repeat_interleave(each), number),
        column(shift, none),
        column(scale, none),
        column(torch.zeros(count * each), torch.ones(count)),
        Linear(F.pad(coded.weight, (0, unused)).to(half), coded.bias.to(half)),
    )


def _layer(layer: Any, precision: Precision, half: torch.dtype) -> Layer:
    own, mix, outer = layer.attention.self, layer.attention.output, layer.output
    parts = (own.query, own.key, own.value)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part.bias for part in parts])

    def stored(weight: Tensor, bias: Tensor) -> Linear:
        if precision == "bf16":
            return Linear(weight.to(half), bias.to(half))
        scale = weight.abs().max().float() / _LARGEST
        return Linear((weight / scale).to(_E4M3), bias.to(half), scale)

    return Layer(
        stored(weight, bias),
        stored(mix.dense.weight, mix.dense.bias),
        (mix.LayerNorm.weight, mix.LayerNorm.bias),
        stored(layer.intermediate.dense.weight, layer.intermediate.dense.bias),
        stored(outer.dense.weight, outer.dense.bias),
        (outer.LayerNorm.weight, outer.LayerNorm.bias),
    )
