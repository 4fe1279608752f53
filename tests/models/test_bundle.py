from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import bundle as bundles
from models import manifest as manifests
from models import signature
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
    "a manifest that is no text": (
        lambda f: (f / "manifest.json").write_bytes(b'{"format": 2, "version": "\xa3"}'),
        "manifest.json is damaged",
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
        ("bert/config.json", lambda c: c["size"].update(layers=10**9), "larger than the file"),
        ("bert/config.json", lambda c: c["size"].update(hidden=1 << 40), "larger than the file"),
        ("bert/config.json", lambda c: c["size"].update(heads=0), "has no size"),
        ("bert/config.json", lambda c: c["size"].update(feed_forward=-1), "below nothing"),
        ("bert/config.json", lambda c: c.update(window=1 << 40), "larger than the file"),
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


# -- signatures


@pytest.fixture
def signed(copy: Path, tmp_path: Path) -> tuple[Path, str]:
    """A bundle, and the public key of who signed it."""
    trusted = signature.make_key(tmp_path / "key.pem")
    version, key = signature.sign(copy, tmp_path / "key.pem")
    assert key == trusted
    assert version == json.loads((copy / "manifest.json").read_text())["version"]
    return copy, trusted


def test_a_bundle_is_loaded_that_one_of_the_trusted_signed(
    signed: tuple[Path, str], tmp_path: Path
) -> None:
    folder, trusted = signed
    other = signature.make_key(tmp_path / "other.pem")
    assert bundles.load(folder, "cpu", trusted=(other, trusted)).name == "shop-tiny"
    assert bundles.load(folder, "cpu").name == "shop-tiny"


def resealed(folder: Path) -> None:
    """Somebody who may write the folder lowers a threshold and makes the hashes fit."""
    kept = (folder / "signature.json").read_bytes()
    edit("metrics.json", lambda m: m.update(mine=1))(folder)
    seal(folder)
    (folder / "signature.json").write_bytes(kept)


FORGERIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nobody": (lambda f: (f / "signature.json").unlink(), "is not signed"),
    "of other files": (resealed, "signature is of another manifest"),
    "garbled": (lambda f: (f / "signature.json").write_bytes(b"{}"), "signature.json is damaged"),
    "no base64": (edit("signature.json", lambda s: s.update(signature="?")), "is damaged"),
    "no key": (edit("signature.json", lambda s: s.update(key="AAAA")), "is damaged"),
    "cut short": (
        edit("signature.json", lambda s: s.update(signature=s["signature"][:44])),
        "signature is of another manifest",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_bundle_without_a_good_signature_is_refused_where_one_is_asked_for(
    signed: tuple[Path, str], forgery: str
) -> None:
    folder, trusted = signed
    forge, complaint = FORGERIES[forgery]
    forge(folder)
    with pytest.raises(BadBundle, match=complaint):
        bundles.load(folder, "cpu", trusted=(trusted,))
    bundles.load(folder, "cpu")


def test_a_stranger_may_sign_and_is_not_believed(signed: tuple[Path, str], tmp_path: Path) -> None:
    folder, trusted = signed
    stranger = signature.make_key(tmp_path / "stranger.pem")
    signature.sign(folder, tmp_path / "stranger.pem")
    with pytest.raises(BadBundle, match=r"not among scorer\.trusted_keys") as refused:
        bundles.load(folder, "cpu", trusted=(trusted,))
    assert stranger in str(refused.value)


def test_the_private_key_is_for_its_owner_alone_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    signature.make_key(path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Misconfigured, match="File exists"):
        signature.make_key(path)
    assert path.read_bytes() == before


def test_only_a_whole_bundle_is_signed_and_only_by_a_key(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("no key")
    with pytest.raises(Misconfigured, match="no private Ed25519 key"):
        signature.sign(copy, path)
    path.unlink()
    signature.make_key(path)
    flip(copy)
    with pytest.raises(BadBundle, match="not the file"):
        signature.sign(copy, path)


def test_what_is_written_anew_is_not_signed_any_more(signed: tuple[Path, str]) -> None:
    folder, _ = signed
    seal(folder)
    assert not (folder / "signature.json").exists()


def test_a_machine_that_only_scores_needs_no_package_of_the_stream() -> None:
    absent = ("aiokafka", "faust", "redis", "polars", "lightgbm", "cryptography")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import models.bundle, models.scorer\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
