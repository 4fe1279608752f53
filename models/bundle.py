"""A model bundle: a folder with all that a scorer needs, under one version. Nothing is unpickled.

    model.safetensors    weights
    config.json          name, shape of the network
    schema.toml          fields, types, tasks
    statistics.json      what events look like: edges of codes, usual ranges
    calibration.json     raw score -> probability, thresholds
    metrics.json         what was measured on held-out users
    golden.safetensors   a few windows and their scores
    manifest.json        format, version, a hash of each file

Loading checks everything, the golden windows last: what loads gives the scores it was shipped with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import safetensors
import torch
from msgspec import Struct
from safetensors.torch import load_file, save_file

from models import schema as schemas
from models.calibration import Calibration
from models.inference import run
from models.network import Network, NetworkConfig, Statistics
from models.schema import Schema
from stream_app.core.errors import BadBundle, Misconfigured
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Windows

FORMAT: Final = 1
_CLOSE: Final = 1e-3  # golden scores on a CPU
_MANIFEST: Final = "manifest.json"
_FILES: Final = (
    "model.safetensors",
    "config.json",
    "schema.toml",
    "statistics.json",
    "calibration.json",
    "metrics.json",
    "golden.safetensors",
)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    network: NetworkConfig


class Manifest(Struct, frozen=True, kw_only=True):
    format: int
    version: str
    sha256: dict[str, str]


class Golden(Struct, frozen=True):
    """Windows whose scores are known."""

    windows: Windows
    tasks: Ints
    calibrated: Floats


class Bundle(Struct, frozen=True, kw_only=True):
    """What a bundle holds, checked. `network` is on `device`, ready to evaluate, not to train."""

    name: str
    version: str
    schema: Schema
    network: Network
    statistics: Statistics
    calibration: Calibration
    metrics: Mapping[str, Any]
    device: torch.device


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
    raw = run(bundle.network, windows, bundle.device).logits
    return bundle.calibration.apply(raw[np.arange(len(windows)), task], task)


def save(
    folder: Path,
    name: str,
    network: Network,
    statistics: Statistics,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    windows: Windows,
    tasks: Ints,
) -> str:
    """Write a bundle and return its version. `windows`: a dozen to become golden."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)  # until the new one is written, nothing loads
    network = network.eval().cpu()
    raw = run(network, windows, torch.device("cpu")).logits[np.arange(len(windows)), tasks]
    rows = torch.from_numpy(np.frombuffer(windows.rows.tobytes(), np.uint8).copy())
    save_file(
        {
            "rows": rows.view(len(windows.rows), -1),
            "index": torch.from_numpy(windows.index.astype(np.int64)),
            "length": torch.from_numpy(windows.length.astype(np.int64)),
            "tasks": torch.from_numpy(np.asarray(tasks, np.int64)),
            "calibrated": torch.from_numpy(calibration.apply(raw, tasks)),
        },
        folder / "golden.safetensors",
    )
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    config = Config(name=name, network=network.config)
    for file, content in {
        "config.json": config,
        "statistics.json": statistics,
        "calibration.json": calibration,
        "metrics.json": metrics,
    }.items():
        text = msgspec.json.format(msgspec.json.encode(content), indent=1)
        (folder / file).write_bytes(text + b"\n")
    (folder / "schema.toml").write_text(schemas.dump(network.schema), "utf-8")
    for file in _FILES:
        (folder / file).chmod(0o644)  # safetensors are written for their owner alone
    hashes = {file: _hash(folder / file) for file in _FILES}
    version = _version(name, hashes)
    manifest = msgspec.json.encode(Manifest(format=FORMAT, version=version, sha256=hashes))
    (folder / _MANIFEST).write_bytes(msgspec.json.format(manifest, indent=1) + b"\n")
    return version


def load(folder: str | Path, device: str = "auto") -> Bundle:
    """Read and check a bundle. Raises BadBundle: what is wrong with it, and what to do."""
    place, folder = pick_device(device), Path(folder)
    manifest = _checked_manifest(folder)
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=Config)
        statistics = msgspec.json.decode((folder / "statistics.json").read_bytes(), type=Statistics)
        calibration = msgspec.json.decode(
            (folder / "calibration.json").read_bytes(), type=Calibration
        )
        metrics = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=dict[str, Any])
        schema = schemas.parse((folder / "schema.toml").read_text("utf-8"), "its schema.toml")
        tasks = len(schema.task_names)
        if not len(calibration.lines) == len(calibration.thresholds) == tasks:
            raise ValueError(f"its calibration is not for the {tasks} tasks of its schema")
        network = Network(schema, config.network, statistics)
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (msgspec.MsgspecError, Misconfigured, ValueError, KeyError, RuntimeError) as error:
        raise _bad(folder, f"its files do not fit together ({_short(error)})") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise _bad(folder, f"a file of it cannot be read ({_short(error)})") from error
    network.eval().requires_grad_(False)
    bundle = Bundle(
        name=config.name,
        version=manifest.version,
        schema=schema,
        network=network,
        statistics=statistics,
        calibration=calibration,
        metrics=metrics,
        device=torch.device("cpu"),
    )
    _check_golden(folder, bundle)
    network.to(place)
    return msgspec.structs.replace(bundle, device=place)


def golden(folder: Path, schema: Schema) -> Golden:
    """The golden windows of a bundle."""
    held = {key: value.numpy() for key, value in load_file(folder / "golden.safetensors").items()}
    rows = np.frombuffer(held["rows"].tobytes(), schema.row)
    return Golden(Windows(rows, held["index"], held["length"]), held["tasks"], held["calibrated"])


def _checked_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        raise BadBundle(
            f"There is no model bundle at {folder}: no such folder. "
            "Give the folder that `train` wrote, or leave the setting out to use the shipped model."
        )
    if not (folder / _MANIFEST).is_file():
        raise _bad(
            folder, "it has no manifest.json, so it is no bundle or was not written to the end"
        )
    try:
        manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise _bad(folder, f"its manifest.json is damaged ({_short(error)})") from error
    if manifest.format != FORMAT:
        raise BadBundle(
            f"The model bundle at {folder} has format {manifest.format}; this program reads format "
            f"{FORMAT}. Train it again with this version, or run the version that made it."
        )
    for file in _FILES:
        if file not in manifest.sha256 or not (folder / file).is_file():
            raise _bad(folder, f"{file} is missing")
        if _hash(folder / file) != manifest.sha256[file]:
            raise _bad(folder, f"{file} is not the file that was written with it")
    if manifest.version != _version(manifest.version.rpartition("-")[0], manifest.sha256):
        raise _bad(folder, "its version does not belong to its files")
    return manifest


def _check_golden(folder: Path, bundle: Bundle) -> None:
    try:
        known = golden(folder, bundle.schema)
        found = score(bundle, known.windows, known.tasks)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise _bad(folder, f"its golden windows cannot be scored ({_short(error)})") from error
    off = float(np.max(np.abs(found - known.calibrated), initial=0))
    if not off <= _CLOSE:
        raise _bad(
            folder,
            f"its golden windows score up to {off:.3f} differently from when it was made; the "
            "installed PyTorch or transformers may compute something else",
        )


def _bad(folder: Path, what: str) -> BadBundle:
    return BadBundle(
        f"The model bundle at {folder} cannot be used: {what}. Copy the whole folder again from "
        "where it was made, or train it anew."
    )


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str, hashes: Mapping[str, str]) -> str:
    content = "".join(f"{file} {hashes[file]}\n" for file in sorted(hashes))
    return f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
