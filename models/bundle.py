"""A model bundle: a folder with all that a scorer needs, under one version. Nothing is unpickled.

    config.json               name, members in order: the first encoder leads
    schema.toml               fields, types, tasks
    calibration.json          members' raw scores -> one probability, thresholds
    metrics.json              what was measured on held-out users
    golden.safetensors        a few windows and their scores
    bert/config.json          an encoder: shape of the network,
    bert/statistics.json      what events look like: edges of codes, usual ranges,
    bert/model.safetensors    weights
    trees/trees.txt           boosted trees, as LightGBM writes them
    second/trees.txt          a second look: trees,
    second/config.json        and the scale of what they see of the leading encoder
    manifest.json             format, version, a hash of each file
    signature.json            of the manifest, if somebody signed it

Loading checks everything, the golden windows last: what loads gives the scores it was shipped with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import safetensors
import torch
from msgspec import Struct
from safetensors.torch import load_file, save_file

from models import manifest as manifests
from models import member_files
from models import schema as schemas
from models.calibration import Calibration
from models.committee import Opinions, hear
from models.fusion import Fusion, alone
from models.manifest import bad, short
from models.members import LEAD, Members, complaint
from models.network import Network, Statistics
from models.packed_linear import packed
from models.schema import Schema
from models.writing import writing
from stream_app.core.errors import Misconfigured
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Windows

_CLOSE: Final = 1e-3  # golden scores on a CPU
# What reading the files raises: they do not fit together; one is damaged; nothing can be scored.
UNFIT: Final = (msgspec.MsgspecError, Misconfigured, ValueError, KeyError, RuntimeError)
UNREADABLE: Final = (OSError, safetensors.SafetensorError)
UNSCORABLE: Final = (KeyError, ValueError, IndexError, RuntimeError, *UNREADABLE)
FILES: Final = (
    "config.json",
    "schema.toml",
    "calibration.json",
    "metrics.json",
    "golden.safetensors",
)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    members: tuple[member_files.Entry, ...]


class Golden(Struct, frozen=True):
    """Windows whose scores are known."""

    windows: Windows
    tasks: Ints
    calibrated: Floats


class Bundle(Struct, frozen=True, kw_only=True):
    """What a bundle holds, checked. Networks are on `device`, ready to evaluate, not to train."""

    name: str
    version: str
    schema: Schema
    members: Members
    chosen: tuple[str, ...]  # the members whose mean is the score
    fusion: Fusion
    metrics: Mapping[str, Any]
    device: torch.device

    @property
    def network(self) -> Network:
        """The leading encoder: surprise and reasons are its own."""
        return self.members.lead

    @property
    def statistics(self) -> Statistics:
        return self.network.statistics

    @property
    def calibration(self) -> Calibration:
        """Of the fused score of the chosen members."""
        return self.fusion.final(self.chosen)


def pick_device(name: str) -> torch.device:
    """auto, cpu or cuda. Raises Misconfigured if CUDA is asked for and absent."""
    if name not in ("auto", "cpu", "cuda"):
        raise Misconfigured(f"there is no device {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise Misconfigured(
            "the device cuda was asked for, but PyTorch finds none: choose auto or cpu"
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def score(bundle: Bundle, windows: Windows, tasks: Sequence[int] | Ints) -> Floats:
    """Calibrated scores, on the calling thread. A running system uses `scorer.BundleScorer`."""
    task = np.asarray(tasks, np.int64)
    return bundle.calibration.apply(raw_score(bundle, windows, task), task)


def raw_score(bundle: Bundle, windows: Windows, tasks: Sequence[int] | Ints) -> Floats:
    """(windows,) the fused score that the calibration of the bundle is for."""
    task = np.asarray(tasks, np.int64)
    return fused(bundle, opinions(bundle, windows, task), task)


def opinions(
    bundle: Bundle,
    windows: Windows,
    tasks: Ints,
    budget: int = 0,
    likelihood: bool = False,
    threads: int = 1,
) -> Opinions:
    """What each chosen member says, in the order of `bundle.chosen`; see `committee.hear`."""
    return hear(
        bundle.members, bundle.chosen, windows, tasks, bundle.device, budget, likelihood, threads
    )


def fused(bundle: Bundle, said: Opinions, tasks: Ints) -> Floats:
    """(windows,) from the members' opinions."""
    trees = list(bundle.members.trees)
    return bundle.fusion.mean(said.raw, bundle.chosen, trees, tasks)


def choose(bundle: Bundle, names: Sequence[str]) -> Bundle:
    """The same bundle with the mean over `names` alone. Raises Misconfigured for other names."""
    kept = bundle.members.only(names)
    chosen = tuple(name for name in bundle.members.names if name in names)
    return msgspec.structs.replace(bundle, members=kept, chosen=chosen)


def save(
    folder: Path,
    name: str,
    members: Members | Network,
    fusion: Fusion | Calibration,
    metrics: Mapping[str, Any],
    windows: Windows,
    tasks: Ints,
) -> str:
    """Write a bundle and return its version. `windows`: a dozen to become golden.

    A network with a calibration makes a bundle of one member. Raises ValueError for members that do
    not go together, and Misconfigured if the folder cannot be written.
    """
    if isinstance(members, Network):
        members = Members({LEAD: members})
    if isinstance(fusion, Calibration):
        fusion = alone(LEAD, fusion)
    fusion = fusion.only(members.names)
    if wrong := complaint(members) or fusion.complaint(members.names, len(members.lead.heads)):
        raise ValueError(wrong)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifests.unseal(folder)
        files = [*FILES, *member_files.write(folder, members)]
        for file, content in {
            "config.json": Config(name=name, members=member_files.entries(members)),
            "calibration.json": fusion,
            "metrics.json": metrics,
        }.items():
            text = msgspec.json.format(msgspec.json.encode(content), indent=1)
            (folder / file).write_bytes(text + b"\n")
        (folder / "schema.toml").write_text(schemas.dump(members.schema), "utf-8")
        bundle = Bundle(
            name=name,
            version="",
            schema=members.schema,
            members=members,
            chosen=members.names,
            fusion=fusion,
            metrics=metrics,
            device=torch.device("cpu"),
        )
        rows = torch.from_numpy(np.frombuffer(windows.rows.tobytes(), np.uint8).copy())
        save_file(
            {
                "rows": rows.view(len(windows.rows), -1),
                "index": torch.from_numpy(windows.index.astype(np.int64)),
                "length": torch.from_numpy(windows.length.astype(np.int64)),
                "tasks": torch.from_numpy(np.asarray(tasks, np.int64)),
                "calibrated": torch.from_numpy(score(bundle, windows, tasks)),
            },
            folder / "golden.safetensors",
        )
        return manifests.seal(folder, name, files)


def load(
    folder: str | Path,
    device: str = "auto",
    members: Sequence[str] = (),
    trusted: Sequence[str] = (),
) -> Bundle:
    """Read and check a bundle; `members`: only these score, all if none is named. `trusted`: public
    keys one of which must have signed it; none: it need not be signed.

    Raises BadBundle: what is wrong with it, and what to do. Raises Misconfigured for a device or a
    member that there is not.
    """
    place, folder = pick_device(device), Path(folder)
    manifest = manifests.prove(folder, FILES, trusted)
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=Config)
        fusion = msgspec.json.decode((folder / "calibration.json").read_bytes(), type=Fusion)
        metrics = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=dict[str, Any])
        schema = schemas.parse((folder / "schema.toml").read_text("utf-8"), "its schema.toml")
        found = member_files.read(folder, config.members, schema, manifest.sha256)
        bundle = Bundle(
            name=config.name,
            version=manifest.version,
            schema=schema,
            members=found,
            chosen=found.names,
            fusion=fusion,
            metrics=metrics,
            device=torch.device("cpu"),
        )
        if wrong := complaint(found) or fusion.complaint(found.names, len(schema.task_names)):
            raise ValueError(wrong)
    except UNFIT as error:
        raise bad(folder, f"its files do not fit together ({short(error)})") from error
    except UNREADABLE as error:
        raise bad(folder, f"a file of it cannot be read ({short(error)})") from error
    if place.type == "cpu":
        for network in found.encoders.values():
            packed(network)
    _check_golden(folder, bundle)
    if members:
        bundle = choose(bundle, members)
    for network in bundle.members.encoders.values():
        network.to(place)
    return msgspec.structs.replace(bundle, device=place)


def golden(folder: Path, schema: Schema) -> Golden:
    """The golden windows of a bundle."""
    held = {key: value.numpy() for key, value in load_file(folder / "golden.safetensors").items()}
    rows = np.frombuffer(held["rows"].tobytes(), schema.row)
    return Golden(Windows(rows, held["index"], held["length"]), held["tasks"], held["calibrated"])


def _check_golden(folder: Path, bundle: Bundle) -> None:
    try:
        known = golden(folder, bundle.schema)
        found = score(bundle, known.windows, known.tasks)
    except UNSCORABLE as error:
        raise bad(folder, f"its golden windows cannot be scored ({short(error)})") from error
    off = float(np.max(np.abs(found - known.calibrated), initial=0))
    if not off <= _CLOSE:
        raise bad(
            folder,
            f"its golden windows score up to {off:.3f} differently from when it was made; the "
            "installed PyTorch, transformers or LightGBM may compute something else",
        )
