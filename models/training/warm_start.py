"""Weights to begin from: a BERT checkpoint in Hugging Face format, or a bundle of ours.

Of a BERT come the layers, the places' embeddings and their normalisation; words mean nothing here.
A bundle gives everything, and its statistics, since its weights were fitted to their codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from torch import Tensor

from models import bundle as bundles
from models.encoders import Attention, Kind, NetworkConfig, Size
from models.network import Network, Statistics
from models.schema import Schema
from stream_app.core.errors import BadBundle, Misconfigured

_BUNDLE: Final = "manifest.json"


class Start(Struct, frozen=True, kw_only=True):
    """`weights` by their names in a network of shape `config`: all of them, or its encoder's."""

    config: NetworkConfig
    weights: Mapping[str, Tensor]
    statistics: Statistics | None = None
    identity: str = ""  # the same weights have the same

    def give(self, network: Network) -> None:
        """Put them in their places."""
        wrong = network.load_state_dict(dict(self.weights), strict=False).unexpected_keys
        assert not wrong, wrong


def load_start(
    folder: Path, schema: Schema, encoder: Kind, attention: Attention, window: int
) -> Start:
    """Raises Misconfigured, saying what `folder` holds instead."""
    if not folder.is_dir():
        raise Misconfigured(
            f"there is no folder {folder} to begin from: give one with a BERT checkpoint in "
            "Hugging Face format, or a bundle"
        )
    start = _bundle(folder, schema) if (folder / _BUNDLE).is_file() else None
    start = start or _checkpoint(folder, attention, window)
    if start.config.encoder != encoder:
        raise Misconfigured(f"{folder} has the encoder {start.config.encoder}, not {encoder}")
    if start.config.attention != attention:
        raise Misconfigured(f"{folder} has {start.config.attention} attention, not {attention}")
    if start.config.window < window:
        raise Misconfigured(f"{folder} reads {start.config.window} events, fewer than {window}")
    return start


def _bundle(folder: Path, schema: Schema) -> Start:
    try:
        bundle = bundles.load(folder, "cpu")
    except BadBundle as error:
        raise Misconfigured(str(error)) from error
    if bundle.schema != schema:
        raise Misconfigured(
            f"{folder} was trained for the schema {bundle.schema.name!r} with other fields or "
            "types: a training can only go on with the same"
        )
    network = bundle.network
    if network.config.weights != "float32":
        raise Misconfigured(
            f"{folder} has {network.config.weights} weights, which are not to be trained: begin "
            "from the bundle that it was made of"
        )
    return Start(
        config=network.config,
        weights=network.state_dict(),
        statistics=bundle.statistics,
        identity=bundle.version,
    )


def _checkpoint(folder: Path, attention: Attention, window: int) -> Start:
    from transformers import BertModel

    try:
        told = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"{folder} has no config.json that can be read: it is neither a checkpoint in Hugging "
            "Face format nor a bundle"
        ) from error
    if told.get("model_type") != "bert":
        raise Misconfigured(
            f"{folder} holds a model of type {told.get('model_type')!r}: only a BERT can be begun "
            "from"
        )
    if told.get("position_embedding_type", "absolute") != "absolute":
        raise Misconfigured(f"{folder} has relative positions; only absolute ones can be used")
    try:
        with _quiet():
            model, found = BertModel.from_pretrained(
                folder, add_pooling_layer=False, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # whatever it meets in foreign files
        raise Misconfigured(f"{folder} cannot be loaded as a BERT: {_short(error)}") from error
    if missing := sorted(found["missing_keys"]):
        raise Misconfigured(f"{folder} lacks weights of a BERT: {', '.join(missing[:3])}, ...")
    shape = model.config
    if shape.max_position_embeddings < window:
        raise Misconfigured(
            f"{folder} has {shape.max_position_embeddings} positions; windows hold {window} events"
        )
    config = NetworkConfig(
        size=Size(
            shape.hidden_size,
            shape.num_hidden_layers,
            shape.num_attention_heads,
            shape.intermediate_size,
        ),
        attention=attention,
        window=window,
        activation=shape.hidden_act,
    )
    weights = _without_words(model.state_dict(), window)
    return Start(config=config, weights=weights, identity=_identity(folder))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' words about parts that are not wanted here."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _without_words(state: Mapping[str, Tensor], window: int) -> dict[str, Tensor]:
    """By their names in a network of ours."""
    found = {f"bert.{k}": v.float() for k, v in state.items() if k.startswith("encoder.")}
    kept = {
        "position_embeddings.weight": window,
        "token_type_embeddings.weight": 1,
        "LayerNorm.weight": None,
        "LayerNorm.bias": None,
    }
    for name, rows in kept.items():
        found[f"bert.embeddings.{name}"] = state[f"embeddings.{name}"][:rows].float().clone()
    return found


def _identity(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
