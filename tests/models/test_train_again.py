"""A training that was broken off goes on as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs
from safetensors.torch import load_file

from models.training import Options, Sources, train
from models.training.checkpoint import Checkpoint
from models.training.session import FOLDER
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files

OPTIONS = Options(epochs=3, pretrain_epochs=2, seed=7, device="cpu", lines=16, save_every_s=0)

RUN = """
import sys
from pathlib import Path
import torch
from models.training import Options, Sources, train
data, labels, out = map(Path, sys.argv[1:])
train(
    Sources(data=[data], labels=[labels], simulate=0),
    out,
    Options(epochs=3, pretrain_epochs=2, seed=7, device="cpu", lines=16, save_every_s=0),
)
"""


class Killed(Exception):
    """What a kill is to a test: nothing is tidied up after it."""


def weights(folder: Path) -> dict[str, object]:
    return dict(load_file(folder / "bert" / "model.safetensors"))


@pytest.fixture(scope="module")
def sources(files: Files) -> Sources:
    return Sources(data=[files.data], labels=[files.labels], simulate=0)


@pytest.fixture(scope="module")
def unbroken(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(sources, tmp_path_factory.mktemp("unbroken"), OPTIONS).version


def break_off(
    sources: Sources,
    out: Path,
    after: int,
    monkeypatch: pytest.MonkeyPatch,
    options: Options = OPTIONS,
) -> None:
    """Train until the checkpoint number `after` is written, and not a line further."""
    written = []
    save = Checkpoint.save

    def save_and_die(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        written.append(1)
        if len(written) == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            train(sources, out, options)


@pytest.mark.slow
def test_curves_go_on_where_they_were_broken_off(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = structs.replace(OPTIONS, log_dir=tmp_path / "logs", lines=8)

    def steps() -> list[int]:
        curves = EventAccumulator(str(tmp_path / "logs"))
        curves.Reload()
        return [at.step for at in curves.Scalars("bert/learning rate")]

    break_off(sources, tmp_path, 50, monkeypatch, options)
    before = steps()
    train(sources, tmp_path, options)
    assert 0 < len(before) < len(steps())
    assert steps() == list(range(20, steps()[-1] + 1, 20))


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 25, 40])
def test_broken_off_anywhere_it_ends_with_the_weights_of_an_unbroken_one(
    after: int,
    sources: Sources,
    unbroken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_off(sources, tmp_path, after, monkeypatch)
    said: list[str] = []
    again = train(sources, tmp_path, OPTIONS, said.append)
    assert again.version == unbroken  # a hash of everything in it
    assert any(line.startswith("going on with") for line in said)
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(
    files: Files, sources: Sources, unbroken: str, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-c", RUN, str(files.data), str(files.labels), str(tmp_path)]
    process = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])
    checkpoint = tmp_path / FOLDER / "bert" / "checkpoint.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "manifest.json").exists()
    assert train(sources, tmp_path, OPTIONS).version == unbroken


def test_other_arguments_and_other_data_are_refused_until_it_begins_anew(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "events.jsonl"
    copy.write_bytes(sources.data[0].read_bytes())
    mine, out = Sources(data=[copy], labels=sources.labels, simulate=0), tmp_path / "out"
    break_off(mine, out, 2, monkeypatch)
    other = Options(epochs=4, pretrain_epochs=0, lines=16, device="cpu")
    with pytest.raises(Misconfigured, match=r"other: epochs, pretrain_epochs, seed\)"):
        train(mine, out, other)
    copy.write_bytes(b"\n".join(copy.read_bytes().splitlines()[:-1]))
    with pytest.raises(Misconfigured, match="other: the content of a file"):
        train(mine, out, OPTIONS)
    fresh = Options(epochs=0, pretrain_epochs=0, device="cpu", fresh=True)
    assert train(mine, out, fresh).version


def test_a_damaged_checkpoint_is_told_and_not_trusted(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(sources, tmp_path, 2, monkeypatch)
    path = tmp_path / FOLDER / "bert" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Misconfigured, match=r"is damaged\. Begin anew with --fresh"):
        train(sources, tmp_path, OPTIONS)
