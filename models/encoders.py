"""Tokens -> hidden states: BERT, GPT-2's blocks or a GRU, of one shape and behind two functions.

Knows neither events nor heads. Tokens are left-aligned; a causal encoder reads nothing right of a
position, so what fills a line needs no mask.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional as F

from stream_app.core.errors import Misconfigured

Attention = Literal["causal", "bidirectional"]
Kind = Literal["bert", "gpt", "gru"]
Weights = Literal["float32", "int8"]
KINDS: Final[tuple[Kind, ...]] = ("bert", "gpt", "gru")

_FEW: Final = 4  # reading less than a quarter of the events of a pass is few
_SHALLOW: Final = 4  # layers; above, the last one is too small a part


class Size(Struct, frozen=True, omit_defaults=True):
    hidden: int
    layers: int
    heads: int
    feed_forward: int = 0  # 0: four times hidden
    head_width: int = 0  # 0: hidden / heads; a BERT with fewer heads keeps the width of each


PRESETS: Final = {"tiny": Size(128, 2, 2), "small": Size(256, 4, 4), "base": Size(768, 12, 12)}


class NetworkConfig(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """All that shapes the weights, besides schema and statistics."""

    size: Size
    encoder: Kind = "bert"
    attention: Attention = "causal"
    window: int = 64  # events
    dropout: float = 0.1
    activation: str = "gelu"
    weights: Weights = "float32"  # as they are stored; int8 is not to be trained

    def check(self) -> None:
        """Raises Misconfigured if there is no such network."""
        if self.encoder not in KINDS:
            raise Misconfigured(f"there is no encoder {self.encoder!r}: choose {', '.join(KINDS)}")
        if self.attention not in ("causal", "bidirectional"):
            raise Misconfigured(
                f"there is no attention {self.attention!r}: choose causal or bidirectional"
            )
        if self.attention == "bidirectional" and self.encoder != "bert":
            raise Misconfigured(
                f"the encoder {self.encoder} reads forward only: choose bert for bidirectional "
                "attention, or causal attention"
            )


def make(config: NetworkConfig) -> Any:
    """The module with the weights; `states` and `states_at` know how to call it."""
    return {"bert": _bert, "gpt": _gpt, "gru": _gru}[config.encoder](config)


def states(config: NetworkConfig, module: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """(windows, events, hidden)."""
    found: Tensor
    if config.encoder == "gru":
        found, _ = module(tokens)
    elif config.attention == "causal":
        found = module(inputs_embeds=tokens).last_hidden_state
    else:
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        found = module(inputs_embeds=tokens, attention_mask=mask).last_hidden_state
    return found


def states_at(
    config: NetworkConfig, module: Any, tokens: Tensor, lengths: Tensor, line: Tensor, place: Tensor
) -> Tensor:
    """(read, hidden): `states` at (line, place), without the rest where that is cheaper.

    Only keys and values of the last layer need all events, so a shallow causal BERT saves the
    better part of that layer when few events are read.
    """
    few = len(line) * _FEW <= tokens.shape[0] * tokens.shape[1]
    causal_bert = config.encoder == "bert" and config.attention == "causal"
    if not causal_bert or not few or config.size.layers > _SHALLOW:
        return states(config, module, tokens, lengths)[line, place]
    *layers, last = module.encoder.layer
    known = module.embeddings(inputs_embeds=tokens)
    for layer in layers:
        known = layer(known, None)
    attention, read = last.attention.self, known[line, place]
    split = (config.size.heads, -1)
    query = attention.query(read).unflatten(-1, split).unsqueeze(2)  # (read, heads, 1, width)
    key, value = (
        part(known).unflatten(-1, split).transpose(1, 2)[line]  # (read, heads, events, width)
        for part in (attention.key, attention.value)
    )
    visible = torch.arange(tokens.shape[1], device=tokens.device) <= place[:, None]
    context = F.scaled_dot_product_attention(query, key, value, visible[:, None, None])
    mixed = last.attention.output(context.flatten(1), read)
    found: Tensor = last.feed_forward_chunk(mixed)
    return found


def _bert(config: NetworkConfig) -> Any:
    from transformers import BertConfig, BertModel

    shape = BertConfig(
        vocab_size=1,  # tokens come as vectors
        pad_token_id=0,
        hidden_size=config.size.hidden,
        num_hidden_layers=config.size.layers,
        num_attention_heads=_heads(config.size),
        intermediate_size=config.size.feed_forward or 4 * config.size.hidden,
        hidden_act=config.activation,
        max_position_embeddings=config.window,
        type_vocab_size=1,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        is_decoder=config.attention == "causal",
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = BertModel(shape, add_pooling_layer=False)
    if config.size.head_width:
        _narrow(model, config.size)
    return model


def _heads(size: Size) -> int:
    """As many as there were before some were taken out."""
    return size.hidden // size.head_width if size.head_width else size.heads


def _narrow(model: Any, size: Size) -> None:
    """Leave room for `size.heads` heads; their width says the rest."""
    width = size.heads * size.head_width
    for layer in model.encoder.layer:
        attention = layer.attention.self
        for name in ("query", "key", "value"):
            setattr(attention, name, nn.Linear(size.hidden, width))
        attention.num_attention_heads, attention.all_head_size = size.heads, width
        layer.attention.output.dense = nn.Linear(width, size.hidden)


def _gpt(config: NetworkConfig) -> Any:
    from transformers import GPT2Config, GPT2Model

    shape = GPT2Config(
        vocab_size=1,
        bos_token_id=0,
        eos_token_id=0,
        n_embd=config.size.hidden,
        n_layer=config.size.layers,
        n_head=config.size.heads,
        n_inner=config.size.feed_forward or None,
        n_positions=config.window,
        embd_pdrop=config.dropout,
        resid_pdrop=config.dropout,
        attn_pdrop=config.dropout,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return GPT2Model(shape)


def _gru(config: NetworkConfig) -> Any:
    size = config.size
    dropout = config.dropout if size.layers > 1 else 0.0
    return nn.GRU(size.hidden, size.hidden, size.layers, batch_first=True, dropout=dropout)
