"""What may be asked of a training: other losses, other encoders, curves, the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.encoders import Kind
from models.training import Options, Sources, train
from models.training.objective import Objective
from models.training.recipe import Loss, epochs_for, rate_for
from models.training.watch import Watch
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "loss"), [("gpt", "ce"), ("gru", "ce"), ("bert", "mse"), ("bert", "focal")]
)
def test_other_encoders_and_losses_find_crude_bots(
    encoder: Kind, loss: Loss, files: Files, tmp_path: Path
) -> None:
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(encoder=encoder, loss=loss, epochs=3, pretrain_epochs=1, device="cpu")
    report = train(sources, tmp_path, options)
    assert report.metrics["held_out_users"]["average_precision"] > 0.8
    assert (tmp_path / encoder / "model.safetensors").is_file()


def objective(loss: Loss) -> Objective:
    return Objective(torch.nn.Identity(), loss, 1.0)  # type: ignore[arg-type]


def test_the_losses_are_what_their_names_say() -> None:
    logit, target = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    weight = torch.tensor([1.0, 1.0, 2.0])
    p = torch.sigmoid(logit)
    right = torch.where(target == 1, p, 1 - p)
    expected = {
        "ce": -right.log(),
        "mse": (1 - right) ** 2,
        "focal": -((1 - right) ** 2) * right.log(),
    }
    for loss, each in expected.items():
        found = objective(loss)._of_labels(logit, target, weight)  # type: ignore[arg-type]
        torch.testing.assert_close(found, (each * weight).sum() / 4)


def test_many_events_are_seen_less_often_and_large_networks_learn_in_small_steps() -> None:
    assert [epochs_for(n, 8) for n in (1000, 400_000, 1_600_000, 100_000_000)] == [8, 8, 4, 3]
    assert epochs_for(100_000_000, 2) == 2
    assert rate_for(128, warm=False) > rate_for(768, warm=False)
    assert rate_for(384, warm=True) <= 3e-4


def test_what_cannot_be_asked_is_told_before_anything_is_read(tmp_path: Path) -> None:
    def refused(why: str, **options: object) -> None:
        with pytest.raises(Misconfigured, match=why):
            train(Sources(data=[]), tmp_path / "out", Options(**options))  # type: ignore[arg-type]

    refused("no encoder 'lstm'", encoder="lstm")
    refused("no loss 'hinge'", loss="hinge")
    refused("reads forward only", encoder="gru", attention="bidirectional")
    refused("no member 'forest'", members=("bert", "forest"))
    refused("each member once", members=("bert", "bert"))
    refused(r"must be an encoder \(bert\), not trees", members=("trees", "bert"))
    refused("second look needs causal", members=("bert", "second"), attention="bidirectional")
    assert not (tmp_path / "out").exists()


def test_the_first_member_leads() -> None:
    assert Options(members=("gru", "bert", "trees")).config(64).encoder == "gru"
    assert Options(encoder="gpt").config(64).encoder == "gpt"


@pytest.mark.slow
def test_the_command_trains_and_keeps_curves_of_each_member(files: Files, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = ["--data", str(files.data), "--labels", str(files.labels), "--out", str(tmp_path)]
    told += [
        "--simulate",
        "0",
        "--epochs",
        "2",
        "--pretrain-epochs",
        "1",
        "--lines",
        "8",
        "--members",
        "bert,gru",
    ]
    found = CliRunner().invoke(app, ["train", *told, "--device", "cpu"])
    assert found.exit_code == 0, found.output
    assert "epoch 2/2: loss" in found.output
    curves = EventAccumulator(str(tmp_path / "logs"))
    curves.Reload()
    names = ("epoch loss", "epoch guess loss", "learning rate")
    for member in ("bert", "gru"):
        assert {f"{member}/{name}" for name in names} <= set(curves.Tags()["scalars"])
        assert [at.step for at in curves.Scalars(f"{member}/average precision")] == [1, 2]
        steps = [at.step for at in curves.Scalars(f"{member}/learning rate")]
        assert steps == list(range(20, steps[-1] + 1, 20))


def test_without_a_folder_no_curves_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    watch.curve("loss", 1.0, 1)
    watch.close()
    assert not list(tmp_path.iterdir())
