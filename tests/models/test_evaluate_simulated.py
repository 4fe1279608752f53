"""An evaluation of events that nobody labelled: attacks are simulated, and the report says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models import schema as schemas
from models.dataset import Dataset
from models.evaluate import run
from models.evaluate.contestants import Baseline
from models.evaluate.inputs import Inputs, read_history
from models.evaluate.page import markdown
from models.evaluate.run import Evaluation, Request, evaluate
from models.evaluate.simulated import posed, taught
from models.evaluate.tables import tables
from models.simulate.shop import SimulationConfig, write
from models.training.replicas import replicas
from models.training.watch import Watch
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

DAY_MS = 24 * 3600 * 1000
SHOP = schemas.load("shop")


class Learner:
    """Tells what it was fitted on; scores what it cannot know."""

    def __init__(self, name: str, labels: bool) -> None:
        self.name, self.labels = name, labels
        self.fitted: tuple[Dataset, Ints, Ints] | None = None

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self.fitted = data, fit_on, choose_on

    def score(self, data: Dataset, events: Ints) -> Any:
        return 5 * data.anomalous[events] + np.linspace(0, 1, len(events))


class Files(msgspec.Struct):
    past: Path
    later: Path

    def inputs(self, **more: object) -> Inputs:
        given: dict[str, Any] = {"data": (self.past,), "tests": (self.later,), "simulate": 2}
        return Inputs(**{**given, **more})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two days of a shop that nobody attacks, and the day after."""
    folder = tmp_path_factory.mktemp("quiet")
    all_, labels = folder / "all.jsonl", folder / "labels.jsonl"
    write(
        SimulationConfig(seed=41, span_ms=3 * DAY_MS, events=4500, attack_share=0.0), all_, labels
    )
    lines = all_.read_bytes().splitlines(keepends=True)
    found = Files(folder / "past.jsonl", folder / "later.jsonl")
    found.past.write_bytes(b"".join(lines[:3000]))
    found.later.write_bytes(b"".join(lines[3000:]))
    return found


def judged(inputs: Inputs) -> Evaluation:
    return evaluate(Request(inputs=inputs, baselines=("velocity",), bootstrap=0))


def test_events_without_labels_are_judged_by_simulated_attacks_and_the_report_says_so(
    files: Files,
) -> None:
    found = judged(files.inputs())
    assert found.report.counts["draws"] == 2
    assert found.report.counts["anomalies"] > 50
    assert found.report.counts["look_alikes"]
    assert "difficulty" in found.report.groups
    told = markdown(found, tables(found))
    assert told.split("## All detectors")[0].count("> The truth is simulated") == 1
    assert "in 2 simulated draws" in told
    assert not any("have no label" in note for note in found.notes)
    assert msgspec.json.encode(found) == msgspec.json.encode(judged(files.inputs()))


def test_what_learns_from_labels_is_fitted_to_attacks_in_the_history_and_nothing_else_is(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, other = Learner("learner", True), Learner("other", False)
    monkeypatch.setattr(run, "detectors", lambda *_, **more: [learner, other])
    found = evaluate(Request(inputs=files.inputs(), baselines=("any",), bootstrap=0))
    assert any("fitted to 2 draws" in note for note in found.notes)
    assert learner.fitted is not None
    assert other.fitted is not None
    data, fit_on, choose_on = learner.fitted
    assert data.anomalous[fit_on].any()
    assert data.anomalous[choose_on].any()
    held = data.of("campaign")
    for of in (held, [data.users[u] for u in data.user.tolist()]):
        apart = [
            {of[at] for at in some.tolist() if not held[at] or of is held} - {""}
            for some in (fit_on, choose_on)
        ]
        assert not apart[0] & apart[1]
    assert not other.fitted[0].anomalous.any()  # it learns what people do, from people alone
    told = found.report.detectors["learner"].details
    assert told["decisions"]["recall"] == 1  # calibrated on draws like those that are judged
    assert "calibration" in told


def test_a_history_without_labels_teaches_by_simulation_where_the_truth_is_known(
    files: Files, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.jsonl"
    first = msgspec.json.decode(files.later.read_bytes().splitlines()[0])
    labels.write_bytes(msgspec.json.encode({"event_id": first["event_id"], "label": 1}))
    inputs = files.inputs(test_labels=(labels,))
    assert inputs.draws == 1
    history = taught(inputs, read_history(inputs, SHOP, WindowPolicy(), 0), SHOP, WindowPolicy(), 0)
    learner = Learner("learner", True)
    one = Baseline(learner, 3)
    one.prepare(history)
    assert learner.fitted is not None
    assert learner.fitted[0].anomalous.any()
    assert history.by == history.draws  # limits are set on real events
    data, events, _ = posed(inputs, 0, SHOP, WindowPolicy(), 0)
    assert data.anomalous[events].sum() == 1
    assert one.judge(data, events).probabilities is None
    assert not judged(inputs).simulated


def test_no_draw_is_one_that_a_training_sees_or_another_draw(files: Files) -> None:
    inputs, policy = files.inputs(), WindowPolicy()
    history = taught(inputs, read_history(inputs, SHOP, policy, 0), SHOP, policy, 0)
    draws = replicas([files.past], {}, 3000, 2, 0, SHOP, policy, Watch())
    draws += [draw.data for draw in history.taught]
    for at in range(2):
        data, events, _ = posed(inputs, at, SHOP, policy, 0)
        assert data.windows.length[events].max() > 20  # windows reach back into the history
        draws.append(data)
    campaigns = [set(data.of("campaign")) - {""} for data in draws]
    assert all(campaigns)
    assert len(set.union(*campaigns)) == sum(map(len, campaigns))


def test_what_cannot_be_attacked_is_told_with_what_to_do(files: Files, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    lines = [msgspec.json.decode(line) for line in files.later.read_bytes().splitlines()]
    bare.write_bytes(
        b"\n".join(
            msgspec.json.encode({k: v for k, v in event.items() if k != "item_id"})
            for event in lines
        )
    )
    with pytest.raises(Misconfigured, match=r"in .*bare.jsonl: no event has .* Give --test-labels"):
        judged(files.inputs(tests=(bare,)))
    with pytest.raises(Misconfigured, match=r"in --data: .* Give --labels, or --simulate 0"):
        judged(files.inputs(data=(bare,)))
    with pytest.raises(Misconfigured, match=r"its truth: --test-labels, or .*--simulate 2"):
        judged(files.inputs(simulate=0))
