"""Trials on a small shop with crude bots: kept, gone on with, refused, the best of them used."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from typer.testing import CliRunner

from models.training import Options, Sources, train
from models.tune import settings
from models.tune.run import TuneReport, Wanted, tune
from models.tune.space import TRAINING, Range, suggest
from models.tune.study import Study, opened
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files, write_shop

OPTIONS = Options(epochs=2, device="cpu", seed=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    files = write_shop(tmp_path_factory.mktemp("small"), users=90, seed=2)
    return Sources(data=[files.data], labels=[files.labels], simulate=0)


def wanted(folder: Path, trials: int, of: str = "train") -> Wanted:
    return Wanted(study=folder / "a.journal", out=folder / "best.toml", of=of, trials=trials)


def without_seconds(report: TuneReport) -> list[bytes]:
    return [msgspec.json.encode(structs.replace(one, seconds=0)) for one in report.trials]


@pytest.fixture(scope="module")
def unbroken(small: Sources, tmp_path_factory: pytest.TempPathFactory) -> TuneReport:
    return tune(small, OPTIONS, wanted(tmp_path_factory.mktemp("unbroken"), 3))


def test_the_first_trial_is_the_usual_one_and_the_best_is_the_best(unbroken: TuneReport) -> None:
    assert unbroken.trials[0].settings == {key: one.usual for key, one in TRAINING.items()}
    assert len({one.settings["rate"] for one in unbroken.trials}) == 3
    assert unbroken.best.chosen_by == max(one.chosen_by for one in unbroken.trials)
    assert unbroken.judged_by == "labels"


def test_a_study_that_was_stopped_goes_on_to_the_same_trials(
    small: Sources, unbroken: TuneReport, tmp_path: Path
) -> None:
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        if line.startswith("trial 2/3: epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(small, OPTIONS, wanted(tmp_path, 3), stop)
    assert said[-1] == f"{tmp_path / 'a.journal'} keeps 1 trials; the same command goes on with it"
    assert settings.table(tmp_path / "best.toml", "train") == unbroken.trials[0].settings
    with (tmp_path / "a.journal").open("ab") as file:
        file.write(b'{"op_code":6,"tri')  # what a kill leaves of a line
    report = tune(small, OPTIONS, wanted(tmp_path, 3), said.append)
    assert f"going on with {tmp_path / 'a.journal'}: 1 trials are done" in said
    assert without_seconds(report) == without_seconds(unbroken)


def test_train_with_the_settings_of_a_trial_is_that_trial_again(
    small: Sources, tmp_path: Path
) -> None:
    def epochs(said: list[str]) -> list[str]:
        """What was said of them, but for the seconds."""
        of_two = [line.removeprefix("trial 2/2: ") for line in said if "trial 1" not in line]
        return [line.rsplit(",", 1)[0] for line in of_two if "loss" in line]

    tuned: list[str] = []
    trained: list[str] = []
    report = tune(small, OPTIONS, wanted(tmp_path, 2), tuned.append)
    train(small, tmp_path / "bundle", OPTIONS.but(report.trials[1].settings), trained.append)
    assert len(epochs(tuned)) > 2
    assert epochs(tuned) == epochs(trained)


def test_a_baseline_is_tuned_on_the_same_events(small: Sources, tmp_path: Path) -> None:
    report = tune(small, OPTIONS, wanted(tmp_path, 3, of="boosted"))
    assert report.best.chosen_by > 0.5
    found = settings.read(tmp_path / "best.toml")
    assert found == {"boosted": report.best.settings}
    assert "Best of 3 trials" in (tmp_path / "best.toml").read_text()


@pytest.mark.parametrize(
    ("of", "told"),
    [
        ("ecod", "ecod has nothing to tune; velocity, .* have"),
        ("stack-encoder", "asks a bundle"),
        ("stacks", "no baseline 'stacks': choose velocity"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    of: str, told: str, small: Sources, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=told):
        tune(small, OPTIONS, wanted(tmp_path, 3, of=of))
    assert not (tmp_path / "a.journal").exists()


def test_a_study_of_something_else_is_refused(small: Sources, files: Files, tmp_path: Path) -> None:
    first = wanted(tmp_path, 1, of="velocity")
    tune(small, OPTIONS, first)
    other = structs.replace(small, data=[files.data], labels=[files.labels])
    with pytest.raises(Misconfigured, match=r"something else \(other: the content of a file\)"):
        tune(other, OPTIONS, first)
    with pytest.raises(Misconfigured, match=r"\(other: of, space\)"):
        tune(small, OPTIONS, structs.replace(first, of="hbos"))
    with pytest.raises(Misconfigured, match=r"\(other: seed\)"):
        tune(small, structs.replace(OPTIONS, seed=4), first)
    assert len(tune(small, OPTIONS, structs.replace(first, trials=2)).trials) == 2


def test_files_that_are_no_studies_stay_as_they_are(small: Sources, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_text("my notes")
    with pytest.raises(Misconfigured, match="is no study"):
        tune(small, OPTIONS, wanted(tmp_path, 1))
    assert path.read_text() == "my notes"
    with pytest.raises(Misconfigured, match="are the same file"):
        tune(small, OPTIONS, Wanted(study=path, out=path))


def test_two_cannot_work_on_a_study_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with (
        opened(path, {"of": "a"}, 0),
        pytest.raises(Misconfigured, match="somebody else"),
        opened(path, {"of": "a"}, 0),
    ):
        pass


def test_who_has_no_anomalies_to_judge_by_is_told(small: Sources, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no anomaly among the users who choose"):
        tune(structs.replace(small, labels=[]), OPTIONS, wanted(tmp_path, 1))
    report = tune(small, OPTIONS, wanted(tmp_path, 1, of="velocity"))  # nothing was tried before
    assert len(report.trials) == 1


SPACE = {"x": Range(0.0, 1.0, 0.9), "n": Range(1, 9, 9, log=True, whole=True)}


def searched(study: Study, trials: int) -> None:
    """The lower x, the better; worse ones than 0.9 are cut short."""
    for _ in range(trials):
        trial, found = study.ask(SPACE, {"x": 0.9, "n": 9})
        trial.report(-found["x"], 2)
        if trial.should_prune():
            study.cut_short(trial, 1.0)
        else:
            study.tell(trial, -found["x"], 0.0, 1.0)


def test_trials_worse_than_the_median_are_cut_short_and_the_search_gets_somewhere(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "a.journal", {}, 5) as study:
        searched(study, 25)
        tried = study.tried()
    assert [one.settings["x"] for one in tried[:1]] == [0.9]
    assert any(one.pruned for one in tried[4:])
    assert not any(one.pruned for one in tried[:4])
    assert all(math.isnan(one.chosen_by) == one.pruned for one in tried)
    late = [one.settings["x"] for one in tried[15:]]
    assert sum(late) / len(late) < 0.3


def test_trials_depend_on_the_seed_and_those_before_alone(tmp_path: Path) -> None:
    found = []
    for name, parts in (("a", (14,)), ("b", (5, 9)), ("c", (14,))):
        for part in parts:
            with opened(tmp_path / name, {}, 6 if name == "c" else 5) as study:
                searched(study, part)
                tried = [one.settings for one in study.tried()]
        found.append(tried)
    assert found[0] == found[1] != found[2]


def test_suggestions_are_within_their_ranges(tmp_path: Path) -> None:
    with opened(tmp_path / "a", {}, 0) as study:
        trial, first = study.ask(TRAINING, {key: one.low for key, one in TRAINING.items()})
        assert suggest(trial, TRAINING) == first
        assert all(first[key] == one.low for key, one in TRAINING.items())
        study.tell(trial, 0.5, 0.5, 1.0)
        _, second = study.ask(TRAINING, {})
        assert all(one.low <= second[key] <= one.high for key, one in TRAINING.items())


def test_the_command_shows_the_trials_and_writes_the_best(small: Sources, tmp_path: Path) -> None:
    command = ["tune", "--data", str(small.data[0]), "--labels", str(small.labels[0])]
    command += ["--simulate", "0", "--device", "cpu", "--of", "velocity", "--trials", "2"]
    told = CliRunner().invoke(app, [*command, "--study", str(tmp_path / "a.journal")])
    assert told.exit_code == 0, told.output
    assert "velocity: average precision" in told.stdout
    assert "quantile 0.999" in told.stdout
    assert settings.read(tmp_path / "a.toml").keys() == {"velocity"}
