from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import bundle as bundles
from models.calibration import fit
from models.dataset import Dataset, read, split
from models.encoders import Attention
from models.measures import average_precision
from models.schema import Schema
from models.training import Options, Sources, TrainReport, train
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy
from tests.models.conftest import Files


def test_crude_bots_are_told_apart_on_users_never_seen(trained: TrainReport) -> None:
    found = trained.metrics["held_out_users"]
    assert found["average_precision"] > 3 * found["prevalence"]
    assert found["average_precision"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_training_gives_the_same_bundle_again(
    attention: Attention, files: Files, tmp_path: Path
) -> None:
    said: list[str] = []
    versions = {
        train(
            Sources(data=[files.data], labels=[files.labels], simulate=0),
            tmp_path / str(run),
            Options(attention=attention, epochs=1, pretrain_epochs=1, seed=5, device="cpu"),
            said.append,
        ).version
        for run in range(2)
    }
    assert len(versions) == 1
    assert any(line.startswith("epoch 1/1: loss") for line in said)


def test_without_labels_a_bundle_is_made_that_raises_no_alarm(files: Files, tmp_path: Path) -> None:
    report = train(
        Sources(data=[files.data], simulate=0),
        tmp_path / "plain",
        Options(epochs=1, pretrain_epochs=1, device="cpu"),
    )
    bundle = bundles.load(report.folder, "cpu")
    golden = bundles.golden(report.folder, bundle.schema)
    assert golden.calibrated.max() < 0.01


def test_users_and_campaigns_are_in_one_part_only(dataset: Dataset) -> None:
    parts = split(dataset, (0.7, 0.15, 0.15), seed=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(dataset)))
    for attribute in (dataset.user, np.array(dataset.of("campaign"))):
        held = [set(attribute[part].tolist()) for part in parts]
        assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]


def test_lines_that_the_stream_would_put_aside_are_put_aside(shop: Schema, tmp_path: Path) -> None:
    good = {"user_id": "u", "type": "click", "event_time": 5, "event_id": "a"}
    lines = [good, good, good | {"event_id": "b", "type": "dance"}, good | {"event_id": "c"}]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([b"{not json", *map(msgspec.json.encode, lines)]))
    dataset = read([path], [], shop, WindowPolicy())
    assert dataset.event_ids == ["a", "c"]
    assert dataset.put_aside == 3
    assert dataset.windows.length.tolist() == [1, 2]
    ids = dataset.windows.rows["id"][dataset.windows.index[1, -2:]]
    assert ids[0] != ids[1]


def test_files_without_events_and_unknown_presets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        train(Sources(data=[tmp_path / "none.jsonl"]), tmp_path / "out")
    with pytest.raises(Misconfigured, match="tiny, small, base"):
        train(Sources(data=[]), tmp_path / "out", Options(preset="huge"))


def test_labels_of_other_events_are_refused(files: Files, tmp_path: Path) -> None:
    others = tmp_path / "labels.jsonl"
    others.write_text('{"event_id": "of another shop", "label": 1}\n')
    with pytest.raises(Misconfigured, match="do the files belong together"):
        train(Sources(data=[files.data], labels=[others]), tmp_path / "out")


def test_a_prior_that_is_no_share_is_refused(tmp_path: Path) -> None:
    for prior in (0.0, 1.0, 7.0):
        with pytest.raises(Misconfigured, match="between 0 and 1"):
            train(Sources(data=[]), tmp_path / "out", Options(prior=prior))


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    files: Files, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    with pytest.raises(Misconfigured, match="cannot be written"):
        train(Sources(data=[files.data]), tmp_path / "file" / "out", progress=said.append)
    assert not said


def test_calibrated_scores_are_the_share_of_anomalies_among_events_like_it() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 2, 20_000)
    truth = 1 / (1 + np.exp(-(1.5 * raw - 4)))
    tasks = rng.integers(0, 2, 20_000)
    calibration = fit(raw, rng.random(20_000) < truth, tasks, 3)
    found = calibration.apply(raw, tasks)
    assert abs(found - truth).max() < 0.08
    assert calibration.lines[2].events == 20_000  # no event of its own: that of all tasks
    assert math.isnan(calibration.apply(np.array([np.nan]), [0])[0])


def test_average_precision_of_ties_is_the_prevalence() -> None:
    anomalous = np.array([True, False, False, True])
    assert average_precision(np.zeros(4), anomalous) == 0.5
    assert average_precision(np.array([4.0, 3, 2, 1]), anomalous) == 0.75
