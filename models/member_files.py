"""The members of a bundle in its folder: a sub-folder each, of weights as numbers and of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from safetensors.torch import load_file, save_file

from models.calibration import Line
from models.compress.int8 import network_of
from models.features import fact_names
from models.members import Members
from models.network import Network, NetworkConfig, Statistics
from models.schema import Schema
from models.second_look import SecondLook, second_names
from models.trees import Trees

Kind = Literal["encoder", "trees", "second look"]

_FILES: dict[Kind, tuple[str, ...]] = {
    "encoder": ("config.json", "statistics.json", "model.safetensors"),
    "trees": ("trees.txt",),
    "second look": ("config.json", "trees.txt"),
}


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member, as the bundle's config has it."""

    name: str
    kind: Kind


class _Look(Struct, frozen=True, forbid_unknown_fields=True):
    lines: tuple[Line, ...]
    source: str


def entries(members: Members) -> tuple[Entry, ...]:
    looks = members.looks(members.names)
    kinds: dict[str, Kind] = dict.fromkeys(members.encoders, "encoder")
    kinds |= {name: "second look" if name in looks else "trees" for name in members.trees}
    return tuple(Entry(name=name, kind=kind) for name, kind in kinds.items())


def write(folder: Path, members: Members) -> list[str]:
    """Write all of them; returns the files, by their names within `folder`."""
    for name, network in members.encoders.items():
        place = _made(folder, name)
        network.eval().cpu()
        weights = {key: value.contiguous() for key, value in network.state_dict().items()}
        save_file(weights, place / "model.safetensors")
        _write_json(place / "config.json", network.config)
        _write_json(place / "statistics.json", network.statistics)
    for name, some in members.trees.items():
        place = _made(folder, name)
        trees = some
        if isinstance(some, SecondLook):
            _write_json(place / "config.json", _Look(some.lines, some.source))
            trees = some.trees
        assert isinstance(trees, Trees)
        (place / "trees.txt").write_text(trees.text, "utf-8")
    return [f"{e.name}/{file}" for e in entries(members) for file in _FILES[e.kind]]


def read(
    folder: Path, listed: tuple[Entry, ...], schema: Schema, known: Mapping[str, str]
) -> Members:
    """On the CPU, ready to evaluate. `known`: files whose content was checked; only they are read.

    Raises ValueError, KeyError, RuntimeError, OSError, MsgspecError or SafetensorError.
    """
    encoders: dict[str, Network] = {}
    trees: dict[str, Trees | SecondLook] = {}
    if len({entry.name for entry in listed}) < len(listed):
        raise ValueError("a member is listed twice")
    for entry in listed:
        place = folder / entry.name
        for file in _FILES[entry.kind]:
            if f"{entry.name}/{file}" not in known:
                raise ValueError(f"{entry.name}/{file} is missing")
        if entry.kind == "encoder":
            encoders[entry.name] = _network(place, schema)
        elif entry.kind == "trees":
            trees[entry.name] = Trees((place / "trees.txt").read_text("utf-8"), fact_names(schema))
        else:
            look = msgspec.json.decode((place / "config.json").read_bytes(), type=_Look)
            if len(look.lines) != len(schema.task_names):
                raise ValueError(f"{entry.name} is not for the tasks of its schema")
            text = (place / "trees.txt").read_text("utf-8")
            trees[entry.name] = SecondLook(
                Trees(text, second_names(schema)), look.lines, look.source
            )
    return Members(encoders, trees)


def misfit(schema: Schema, config: NetworkConfig, weights: int) -> str | None:
    """Why a file of so many bytes has not the weights of such a network; told before it is made,
    as one that is far too large would take all memory.
    """
    config.check()
    size = config.size
    if min(size.hidden, size.layers, size.heads, config.window) < 1:
        return "its network has no size"
    if min(size.feed_forward, size.head_width) < 0:
        return "its network has a size below nothing"
    width = size.heads * size.head_width or size.hidden
    layer = size.hidden * (width + (size.feed_forward or 4 * size.hidden))
    inputs = size.hidden * sum(field.bits for field in schema.of_kind("category"))
    places = 0 if config.encoder == "gru" else size.hidden * config.window
    if size.layers * layer + inputs + places > weights:  # each is a weight, of a byte at least
        return "its network is larger than the file of its weights"
    return None


def _network(place: Path, schema: Schema) -> Network:
    config = msgspec.json.decode((place / "config.json").read_bytes(), type=NetworkConfig)
    statistics = msgspec.json.decode((place / "statistics.json").read_bytes(), type=Statistics)
    weights = (place / "model.safetensors").stat().st_size
    if wrong := misfit(schema, config, weights):
        raise ValueError(wrong)
    network = network_of(schema, config, statistics)
    network.load_state_dict(load_file(place / "model.safetensors"))
    return network.eval().requires_grad_(False)


def _made(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir(exist_ok=True)
    return place


def _write_json(path: Path, content: object) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
