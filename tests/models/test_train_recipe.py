"""Settings of a training from a file, as `tune` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.encoders import PRESETS, NetworkConfig
from models.training import Options
from models.training.loop import positive_weight
from models.tune import settings
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files


def test_what_is_written_is_read_again_exactly(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    found = {"rate": 1e-3 / 3, "weight_decay": 1e-05, "lines": 48}
    path.write_text(settings.text("train", found, ["best of 3"]))
    assert settings.read(path) == {"train": found}
    assert path.read_text().startswith("# best of 3\n[train]\n")


def test_settings_go_into_the_options_the_network_and_the_recipe() -> None:
    options = Options(seed=4).but({"dropout": 0.3, "positive_share": 0.4, "lines": 48, "rate": 2})
    assert (options.lines, options.rate, options.seed) == (48, 2.0, 4)
    recipe = options.recipe(1000, 128, warm=False)
    assert (recipe.positive_share, recipe.lines, recipe.rate) == (0.4, 48, 2.0)
    known = NetworkConfig(size=PRESETS["small"], dropout=0.2)
    assert options.config(64, known).dropout == options.config(64).dropout == 0.3
    assert Options().config(64, known).dropout == 0.2


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_anomalies_make_up_their_share_of_the_loss(share: float) -> None:
    weight = positive_weight(30, 1000, share)
    assert np.isclose(30 * weight / (30 * weight + 970), share)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rate = 1", "stands in no table"),
        ("[stack]\nleaves = 3", r"no table \[train\], but \[stack\]"),
        ("[train", "is no TOML"),
        ("[train]\nrates = 1", "'rates' is no setting of a training: there are epochs,"),
        ("[train]\nseed = 1", "'seed' is no setting of a training"),
        ("[train]\nlines = 1.5", "lines = 1.5: Expected `int`"),
    ],
)
def test_files_that_say_something_else_are_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=told):
        Options().but(settings.table(path, settings.TRAIN))


@pytest.mark.parametrize("wrong", [{"positive_share": 1.0}, {"dropout": 1.0}, {"rate": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured):
        Options().but(wrong).check()


def test_the_command_line_goes_before_the_file(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    path.write_text("[train]\nepochs = 3\npretrain_epochs = 0\n")
    command = ["train", "--data", str(files.data), "--labels", str(files.labels), "--simulate", "0"]
    command += ["--device", "cpu", "--epochs", "1", "--recipe", str(path)]
    told = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert "epoch 1/1" in told.output
    assert "pre-training" not in told.output
