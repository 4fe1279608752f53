"""What cannot be written, or needs what is not there, is told in a line and before the work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models import bundle as bundles
from models.writing import check_folder
from stream_app.cli import main
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files

SHIPPED = Path(bundles.__file__).parent / "pretrained" / "shop-tiny"
SLICE = "--model {model} --on {data} --labels {labels}"
TRAIN = "train --data {data} --out {tmp}/new --device cpu --log-dir"
JUDGE = "evaluate --model {model} --test {data} --test-labels {labels} --bootstrap 0 --out"
TOOK = ("scoring", "read ", "measuring")  # words of those who have begun


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"calibrate {SLICE} --out {{tmp}}/file", "file cannot be written: Not a directory"),
        (f"calibrate {SLICE} --out {{tmp}}/file/b", "b cannot be written: Not a directory"),
        (f"calibrate {SLICE} --out {{tmp}}/dangling", "cannot be written: No such file"),
        (f"compress {SLICE} --out {{tmp}}/file", "file cannot be written: Not a directory"),
        (f"{TRAIN} {{tmp}}/file", "file cannot be written: Not a directory"),
        (f"{TRAIN} {{tmp}}/file/logs", "logs cannot be written: Not a directory"),
        (f"{JUDGE} {{tmp}}/file", "file cannot be written: Not a directory"),
        (f"{JUDGE} {{tmp}}/taken", "report.md cannot be written: Is a directory"),
        (f"calibrate {SLICE} --out {{tmp}}/b --method isotonic", "scripts/setup train"),
        (f"compress {SLICE} --out {{tmp}}/b --method isotonic", "needs scikit-learn: pip install"),
    ],
)
def test_it_is_told_in_a_line_before_the_work(
    command: str,
    told: str,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    if "isotonic" in command:
        monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    places = {"model": SHIPPED, "data": files.data, "labels": files.labels, "tmp": tmp_path}
    with pytest.raises(SystemExit) as ended:
        main(command.format(**places).split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not any(word in said for word in TOOK)


def test_a_folder_that_can_be_is_not_made_yet(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    check_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_while_a_bundle_is_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = bundles.load(SHIPPED, "cpu")
    golden = bundles.golden(SHIPPED, held.schema)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Misconfigured, match="cannot be written: No space left"):
        bundles.save(
            tmp_path, "b", held.members, held.fusion, held.metrics, golden.windows, golden.tasks
        )
