from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import bundle as bundles
from models import manifest as manifests
from models.bundle import Bundle
from models.training import TrainReport
from stream_app.core.errors import BadBundle, Misconfigured

WEIGHTS = "bert/model.safetensors"


@pytest.fixture
def copy(trained: TrainReport, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def test_a_bundle_scores_its_golden_windows_as_when_it_was_made(
    trained: TrainReport, bundle: Bundle
) -> None:
    golden = bundles.golden(trained.folder, bundle.schema)
    assert len(golden.windows) == 12
    found = bundles.score(bundle, golden.windows, golden.tasks)
    np.testing.assert_allclose(found, golden.calibrated, atol=1e-5)
    assert bundle.version == trained.version
    assert bundle.version.startswith("shop-tiny-")


def edit(file: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return apply


def flip(folder: Path) -> None:
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-100] ^= 1
    (folder / WEIGHTS).write_bytes(weights)


def cut(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "bert/model.safetensors is missing"),
    "a bit flipped": (flip, "bert/model.safetensors is not the file"),
    "weights cut short": (cut, "bert/model.safetensors is not the file"),
    "a schema edited": (
        lambda f: (f / "schema.toml").write_text("name = 'mine'"),
        "schema.toml is not the file",
    ),
    "a threshold edited": (
        edit("calibration.json", lambda c: c["finals"]["bert"].update(thresholds=[0.1] * 3)),
        "calibration.json is not the file",
    ),
    "another format": (edit("manifest.json", lambda m: m.update(format=9)), "has format 9"),
    "another version": (
        edit("manifest.json", lambda m: m.update(version="shop-tiny-00000000")),
        "version does not belong",
    ),
    "a manifest cut short": (
        lambda f: (f / "manifest.json").write_bytes(b'{"format": 1'),
        "manifest.json is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_refused_in_one_plain_paragraph(copy: Path, damage: str) -> None:
    harm, complaint = DAMAGES[damage]
    harm(copy)
    with pytest.raises(BadBundle, match=complaint) as refused:
        bundles.load(copy, "cpu")
    assert "\n" not in str(refused.value)
    assert str(copy) in str(refused.value)


def seal(folder: Path) -> None:
    """Make the manifest fit again, as somebody who knows how would."""
    files = json.loads((folder / "manifest.json").read_text())["sha256"]
    manifests.seal(folder, "shop-tiny", files)


def lines(calibration: dict[str, Any]) -> list[dict[str, float]]:
    found: list[dict[str, float]] = calibration["finals"]["bert"]["lines"]
    return found


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("calibration.json", lambda c: lines(c)[0].update(offset=9), "golden windows score"),
        ("calibration.json", lambda c: lines(c).pop(), "not for the 3 tasks"),
        ("calibration.json", lambda c: c["finals"].clear(), "not for its members"),
        ("bert/config.json", lambda c: c["size"].update(layers=3), "do not fit together"),
        ("bert/statistics.json", lambda s: s["edges"].pop(), "cannot be used"),
    ],
)
def test_files_of_different_bundles_are_refused(
    copy: Path, file: str, change: Callable[[Any], None], complaint: str
) -> None:
    edit(file, change)(copy)
    seal(copy)
    with pytest.raises(BadBundle, match=complaint):
        bundles.load(copy, "cpu")


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match="choose auto, cpu or cuda"):
        bundles.pick_device("tpu")
