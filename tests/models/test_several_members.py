"""A bundle of four members: each scores as of the event, alone and together, in file and stream."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models import bundle as bundles
from models import fusion
from models import manifest as manifests
from models.bundle import Bundle
from models.committee import known_before, known_facts
from models.dataset import Dataset
from models.explain.attribution import attribute
from models.explain.explanation import explain
from models.explain.labels import summary
from models.explain.weighed import weighed
from models.features import fact_names
from models.fusion import weigh
from models.inference import run
from models.scorer import BundleScorer
from models.second_look import EARLIER, SecondLook, earlier, scaled
from models.training import Options, Sources, TrainReport, train
from models.trees import Trees
from stream_app.cli import app
from stream_app.core.errors import BadBundle, Misconfigured
from stream_app.core.window import Windows
from tests.models.conftest import Files

CPU = torch.device("cpu")
MEMBERS = ("bert", "gru", "trees", "second")


@pytest.fixture(scope="module")
def report(files: Files, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(members=MEMBERS, epochs=2, pretrain_epochs=0, seed=3, device="cpu")
    return train(sources, tmp_path_factory.mktemp("several") / "shop", options)


@pytest.fixture(scope="module")
def several(report: TrainReport) -> Bundle:
    return bundles.load(report.folder, "cpu")


def opinions(bundle: Bundle, dataset: Dataset, events: np.ndarray) -> np.ndarray:
    found: np.ndarray = bundles.opinions(
        bundle, dataset.windows.take(events), dataset.task[events]
    ).raw
    return found


def test_each_member_finds_crude_bots_and_the_report_says_what_it_adds(
    report: TrainReport, several: Bundle
) -> None:
    assert several.chosen == MEMBERS
    prevalence = report.metrics["held_out_users"]["prevalence"]
    assert report.metrics["held_out_users"]["average_precision"] > 0.8
    told = report.metrics["members"]
    assert list(told) == list(MEMBERS)
    for of_member in told.values():
        assert of_member["average_precision"] > 2 * prevalence
        assert of_member["of all without it"] > 2 * prevalence


def test_what_a_member_says_does_not_depend_on_what_else_is_in_the_batch(
    several: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    together = opinions(several, dataset, some)
    assert np.isfinite(together).all()
    for at in (0, 7, 31):
        alone = opinions(several, dataset, some[at : at + 1])
        np.testing.assert_allclose(alone[0], together[at], atol=1e-4)


def test_a_prefix_of_the_stream_gives_the_same_opinions(several: Bundle, dataset: Dataset) -> None:
    early = np.arange(0, len(dataset) // 2, 5)
    whole = opinions(several, dataset, np.arange(len(dataset)))[early]
    rows = dataset.windows.rows.copy()
    later = np.setdiff1d(np.arange(len(rows)), dataset.windows.index[early])
    rows[later] = rows[0]  # nothing of what came later is left
    windows = Windows(rows, dataset.windows.index[early], dataset.windows.length[early])
    prefix = bundles.opinions(several, windows, dataset.task[early]).raw
    np.testing.assert_allclose(prefix, whole, atol=1e-4)


def test_a_second_look_hears_what_was_said_of_the_event_before(
    several: Bundle, dataset: Dataset
) -> None:
    look = several.members.trees["second"]
    assert isinstance(look, SecondLook)
    source = several.members.encoders[look.source]
    events = np.flatnonzero(dataset.windows.length > 1)[::9]
    windows = dataset.windows.take(events)
    heard = known_before(source, look.lines, windows, CPU)
    assert heard.shape == (len(events), len(EARLIER))
    before = Windows(windows.rows, np.roll(windows.index, 1, axis=1), windows.length - 1)
    logits = torch.from_numpy(run(source, before, CPU).logits)
    task = np.array(several.schema.task_of_type)[windows.rows["type"][before.index[:, -1]]]
    said = scaled(logits, torch.from_numpy(task), look.lines).numpy()
    np.testing.assert_allclose(heard[:, 0], said, atol=1 / 16)
    assert (heard[:, 2] >= heard[:, 0] - 1e-6).all()
    first = np.flatnonzero(dataset.windows.length == 1)[:3]
    assert np.isnan(known_before(source, look.lines, dataset.windows.take(first), CPU)).all()


def test_earlier_scores_are_summed_up_as_a_plain_loop_does() -> None:
    scores = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)) * 3
    found = earlier(scores).numpy()
    for line, values in enumerate(scores.tolist()):
        fading = values[0]
        assert np.isnan(found[line, 0]).all()
        for place in range(1, len(values)):
            before = values[:place]
            if place > 1:
                fading += 0.3 * (before[-1] - fading)
            expected = [before[-1], sum(before) / place, max(before), fading]
            np.testing.assert_allclose(found[line, place], expected, atol=1 / 32 + 1e-5)
            assert (found[line, place] * 16 % 1 == 0).all()  # coarse: the same on every device


def test_trees_get_the_same_facts_in_training_and_in_the_stream(
    several: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    facts = known_facts(several.schema, dataset.windows.take(some), CPU)
    trees = several.members.trees["trees"]
    assert not isinstance(trees, SecondLook)
    column = MEMBERS.index("trees")
    np.testing.assert_array_equal(trees.raw(facts), opinions(several, dataset, some)[:, column])


def test_a_subset_scores_with_its_own_calibration(
    several: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    everything = opinions(several, dataset, some)
    for names in (["bert"], ["trees"], ["gru", "second"]):
        subset = bundles.choose(several, names)
        columns = [MEMBERS.index(name) for name in subset.chosen]
        said = bundles.opinions(subset, windows, tasks)
        np.testing.assert_allclose(said.raw, everything[:, columns], atol=1e-4)
        whole = bundles.opinions(several, windows, tasks)
        np.testing.assert_allclose(said.surprise, whole.surprise, atol=1e-4)
        scores = bundles.score(subset, windows, tasks)
        assert subset.calibration == several.fusion.finals[fusion.key(names)]
        assert scores[dataset.anomalous[some]].mean() > 3 * scores[~dataset.anomalous[some]].mean()


def test_a_member_that_is_not_there_is_named_with_those_that_are(report: TrainReport) -> None:
    with pytest.raises(Misconfigured, match="bert, gru, trees, second; 'gpt' was asked for"):
        bundles.load(report.folder, "cpu", ["bert", "gpt"])
    assert bundles.load(report.folder, "cpu", ["second"]).chosen == ("second",)


def test_every_set_of_members_is_calibrated_to_the_share_of_anomalies() -> None:
    rng = np.random.default_rng(1)
    anomalous = rng.random(8000) < 0.1
    tasks = rng.integers(0, 2, 8000)
    raw = {
        name: (rng.normal(0, 1, 8000) + slope * anomalous).astype(np.float32) * size
        for name, slope, size in (("bert", 2, 1), ("gru", 2.5, 9), ("trees", 1.5, 0.2))
    }
    found = fusion.fit(raw, ["trees"], anomalous, tasks, 2, prior=0.02)
    assert len(found.finals) == 7
    assert found.complaint(("bert", "gru", "trees"), 2) is None
    assert found.complaint(("bert", "gpt"), 2) is not None
    for names in (("bert",), ("gru", "trees"), ("bert", "gru", "trees")):
        table = np.stack([raw[name] for name in names], 1)
        mean = found.mean(table, names, ["trees"], tasks)
        given = (1 + 0 * mean) * anomalous.mean()
        scores = found.final(names).apply(mean, tasks)
        odds = scores / (1 - scores) * (0.98 / 0.02) * given / (1 - given)  # back to this share
        assert abs((odds / (1 + odds)).mean() - anomalous.mean()) < 0.01


def test_encoders_have_a_third_of_the_weight_however_many_they_are() -> None:
    np.testing.assert_allclose(weigh(["bert"], []), [1])
    np.testing.assert_allclose(weigh(["bert", "gru", "trees"], ["trees"]), [1 / 6, 1 / 6, 2 / 3])
    np.testing.assert_allclose(weigh(["bert", "trees", "second"], ["trees", "second"]), [1 / 3] * 3)
    np.testing.assert_allclose(weigh(["trees", "second"], ["trees", "second"]), [0.5, 0.5])


async def test_the_scorer_says_of_each_event_what_the_file_says(
    several: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    scorer = BundleScorer(several)
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    parts = np.array_split(np.arange(len(some)), 5)
    found = await asyncio.gather(*(scorer.score(windows.take(p), tasks[p]) for p in parts))
    scores = np.concatenate([part.calibrated for part in found])
    np.testing.assert_allclose(scores, bundles.score(several, windows, tasks), atol=1e-4)
    told = np.concatenate([part.log_likelihood for part in found])
    decided = scores >= several.calibration.thresholds[0]
    assert 0 < decided.sum() < len(decided)
    np.testing.assert_array_equal(np.isnan(told), ~decided)
    reasons = await scorer.explain(windows.take(np.flatnonzero(decided)[:4]), tasks[decided][:4])
    scorer.close()
    assert all(reasons)
    lead = BundleScorer(bundles.choose(several, ["bert"]), likelihood=True)
    alone = await lead.explain(windows.take(np.flatnonzero(decided)[:4]), tasks[decided][:4])
    everything = await lead.score(windows, tasks)
    lead.close()
    assert reasons == alone  # they are the leading encoder's
    np.testing.assert_allclose(everything.log_likelihood[decided], told[decided], rtol=1e-4)


def test_the_likelihood_of_a_window_is_that_of_its_events_one_after_the_other(
    several: Bundle, dataset: Dataset
) -> None:
    event = int(np.argmax(dataset.windows.length))
    length = int(dataset.windows.length[event])
    rows = dataset.windows.index[event, -length:]
    size = dataset.windows.index.shape[1]
    index = np.stack([np.pad(rows[: n + 1], (size - n - 1, 0)) for n in range(length)])
    prefixes = Windows(dataset.windows.rows, index, np.arange(1, length + 1))
    one_by_one = run(several.network, prefixes, CPU).surprise
    whole = run(several.network, prefixes, CPU, likelihood=True)
    np.testing.assert_allclose(whole.surprise, one_by_one, atol=1e-4)
    np.testing.assert_allclose(whole.log_likelihood, -one_by_one.cumsum(), rtol=1e-4)


def test_a_bundle_that_is_calibrated_anew_keeps_its_members(
    report: TrainReport, several: Bundle, dataset: Dataset, some: np.ndarray, tmp_path: Path
) -> None:
    golden = bundles.golden(report.folder, several.schema)
    strict = several.fusion.with_final(
        several.chosen, bundles.choose(several, ["bert"]).calibration
    )
    bundles.save(tmp_path, several.name, several.members, strict, {}, golden.windows, golden.tasks)
    again = bundles.load(tmp_path, "cpu")
    assert again.chosen == MEMBERS
    assert again.version != several.version
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    np.testing.assert_allclose(
        bundles.raw_score(again, windows, tasks), bundles.raw_score(several, windows, tasks)
    )


def test_some_members_can_be_saved_as_a_bundle_of_their_own(
    report: TrainReport, several: Bundle, dataset: Dataset, some: np.ndarray, tmp_path: Path
) -> None:
    golden = bundles.golden(report.folder, several.schema)
    few = bundles.choose(several, ["bert", "trees"])
    bundles.save(tmp_path, "few", few.members, few.fusion, {}, golden.windows, golden.tasks)
    again = bundles.load(tmp_path, "cpu")
    assert again.chosen == ("bert", "trees")
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    np.testing.assert_allclose(
        bundles.score(again, windows, tasks), bundles.score(few, windows, tasks), atol=1e-5
    )


@pytest.mark.gpu
def test_members_on_cuda_say_what_they_say_on_a_cpu_but_for_bf16(
    report: TrainReport, several: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    there = bundles.load(report.folder, "cuda")
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    found = bundles.score(there, windows, tasks)
    assert np.abs(found - bundles.score(several, windows, tasks)).mean() < 0.02
    column = MEMBERS.index("trees")  # facts are not in bf16
    ours = opinions(several, dataset, some)[:, column]
    np.testing.assert_allclose(opinions(there, dataset, some)[:, column], ours, atol=0.1)
    told = bundles.opinions(there, windows, tasks, likelihood=True).log_likelihood
    own = bundles.opinions(several, windows, tasks, likelihood=True).log_likelihood
    np.testing.assert_allclose(told, own, rtol=0.05, atol=1)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_evaluate_judges_each_member_alone_and_all_but_each(
    count: int, report: TrainReport, several: Bundle, files: Files, tmp_path: Path
) -> None:
    bundle = bundles.choose(several, ("bert", "trees")) if count == 2 else several
    golden = bundles.golden(report.folder, bundle.schema)
    bundles.save(
        tmp_path / "b", "b", bundle.members, bundle.fusion, {}, golden.windows, golden.tasks
    )
    asked = f"evaluate --model {tmp_path / 'b'} --members each --bootstrap 0 --device cpu"
    asked += f" --test {files.data} --test-labels {files.labels} --out {tmp_path / 'out'}"
    told = CliRunner().invoke(app, asked.split())
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "out" / "report.json").read_text())["report"]["detectors"]
    alone = {f"b: {name}" for name in bundle.chosen}
    without = {
        "b: " + " + ".join(other for other in bundle.chosen if other != name)
        for name in bundle.chosen
    }
    assert set(found) == {"b"} | alone | without
    assert len(found) == {2: 3, 4: 9}[count]
    assert all(one["figures"]["average_precision"]["value"] > 0.5 for one in found.values())


def rewrite(file: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / file).write_text(change((folder / file).read_text()))

    return apply


def member(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config["members"])
        (folder / "config.json").write_text(json.dumps(config))

    return apply


def upside_down(trees: str) -> str:
    """A text of the same length with other leaves."""
    return re.sub(
        r"leaf_value=(.*)", lambda found: "leaf_value=" + " ".join(found[1].split()[::-1]), trees
    )


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "trees cut short": (rewrite("trees/trees.txt", lambda t: t[:900]), "do not fit together"),
    "no trees at all": (rewrite("trees/trees.txt", lambda _: "hello"), "do not fit together"),
    "trees of another member": (
        lambda f: shutil.copy(f / "second/trees.txt", f / "trees/trees.txt"),
        "fitted to other facts|a fact that there is not",  # whichever is seen first
    ),
    "leaves changed": (rewrite("trees/trees.txt", upside_down), "golden windows score"),
    "a second look that hears nobody": (
        rewrite("second/config.json", lambda t: t.replace('"gru"', '"x"').replace('"bert"', '"x"')),
        "needs the word of a causal encoder",
    ),
    "a member twice": (member(lambda m: m.append(m[-1])), "listed twice"),
    "a member left out": (member(lambda m: m.pop()), "not for its members"),
    "a member from elsewhere": (
        member(lambda m: m.append({"name": "../bert", "kind": "encoder"})),
        "is missing",
    ),
    "trees alone": (member(lambda m: m.__delitem__(slice(0, 2))), "cannot be used"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_members_that_do_not_belong_together_are_refused(
    report: TrainReport, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(report.folder, tmp_path / "copy"))
    harm, complaint = DAMAGES[damage]
    harm(folder)
    with pytest.raises(BadBundle, match="is not the file that was written"):
        bundles.load(folder, "cpu")
    manifests.seal(
        folder, "shop", list(json.loads((folder / "manifest.json").read_text())["sha256"])
    )
    with pytest.raises(BadBundle, match=complaint) as refused:
        bundles.load(folder, "cpu")
    assert "\n" not in str(refused.value)


def test_an_explanation_is_of_all_members_and_says_whose_the_alerts_reasons_are(
    several: Bundle, dataset: Dataset
) -> None:
    scores = bundles.score(several, dataset.windows, dataset.task)
    event = int(np.argmax(np.where(dataset.windows.length > 8, scores, 0)))
    found = explain(several, dataset, event, {})
    assert found.weights == dict(zip(MEMBERS, weigh(MEMBERS, ["trees", "second"]), strict=True))
    told = "\n".join(summary(found))
    assert "all by weight: bert 17%, gru 17%, trees 33%, second 33%" in told
    assert "trees and second by what is lost without a cell" in told
    assert "reasons are those of bert alone (17%)" in told
    speaks_for = sum(max(c.share, 0) for field in found.fields for c in field.cells)
    assert found.heard is not None
    assert speaks_for + max(found.heard, 0) == pytest.approx(1)
    lead = bundles.choose(several, ["bert"])
    assert explain(lead, dataset, event, {}).reasons == found.reasons
    assert not explain(lead, dataset, event, {}).several


def test_what_trees_lose_without_a_cell_is_in_its_place(several: Bundle, dataset: Dataset) -> None:
    only = bundles.choose(several, ["trees"])
    event = int(np.flatnonzero(dataset.anomalous & (dataset.windows.length > 8))[0])
    one, task = dataset.windows.take(np.array([event])), dataset.task[[event]]
    (lead,) = attribute(only.network, one, task, only.device)
    found = weighed(only, one, task, "gradient", lead)
    assert found.before is None
    assert (found.by_input[:-1] == 0).all()  # they see the newest event alone
    names = fact_names(only.schema)
    facts = known_facts(only.schema, one, only.device)
    at = names.index("gap")
    usual = facts.copy()
    usual[0, at] = np.mean(only.statistics.expected[at])
    trees = only.members.trees["trees"]
    assert isinstance(trees, Trees)
    slope = only.fusion.scales["trees"][int(task[0])].slope
    lost = slope * float(trees.raw(facts)[0] - trees.raw(usual)[0])
    count = len(only.network.numbers)
    assert found.by_input[-1, -count + at] == pytest.approx(lost, abs=1e-4)


def test_deep_adds_up_over_several_encoders(several: Bundle, dataset: Dataset) -> None:
    both = bundles.choose(several, ["bert", "gru"])
    event = int(np.flatnonzero(dataset.anomalous & (dataset.windows.length > 8))[0])
    found = explain(both, dataset, event, {}, "path")
    assert found.rise is not None
    assert found.adds_up
    assert found.heard is None
    cells = sum(c.share for field in found.fields for c in field.cells)
    speaks_for = sum(max(c.share, 0) for field in found.fields for c in field.cells)
    assert speaks_for == pytest.approx(1)
    assert np.sign(cells) == np.sign(found.rise)
    assert explain(several, dataset, event, {}, "path").rise is None  # trees do not add up
