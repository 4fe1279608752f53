"""An evaluation from files: what is fitted on what, what is refused, and what the folder holds."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import schema as schemas
from models.dataset import Dataset, read
from models.evaluate import SEEN, UNSEEN
from models.evaluate import folder as report_folder
from models.evaluate.contestants import Baseline
from models.evaluate.drift import MUCH, drift_of, psi
from models.evaluate.inputs import Inputs
from models.evaluate.leak import leaking_fields
from models.evaluate.run import Evaluation, Model, Request, evaluate
from models.evaluate.tables import tables
from models.lines import read as lines_of
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

START_MS = 1_763_900_000_000
HOUR_MS = 3_600_000
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "pretrained" / "shop-tiny"


class Files(msgspec.Struct):
    data: Path
    labels: Path


def write(
    folder: Path,
    name: str,
    *,
    seed: int,
    hour: int = 0,
    users: int = 60,
    families: Sequence[str] = ("flood", "drip"),
    price: float = 1.0,
) -> Files:
    """People at their own pace. Every tenth user is a bot of some family; every tenth resembles one
    and is not.
    """
    dice = random.Random(seed)
    events, labels = [], []
    for user in range(users):
        bot, sale = user % 10 == 0, user % 10 == 1
        at_ms = START_MS + hour * HOUR_MS + dice.randrange(HOUR_MS)
        for number in range(12):
            at_ms += dice.randrange(300, 900) if bot or sale else dice.randrange(2_000, 200_000)
            event_id = f"{name}-{user}-{number}"
            event = {
                "event_id": event_id,
                "user_id": f"{name}-bot{user}" if bot else f"user{user}",
                "type": "click" if bot else dice.choice(["browse", "click", "purchase"]),
                "event_time": at_ms,
                "item_id": f"i{user}" if bot else f"i{dice.randrange(300)}",
                "price": round(price * dice.lognormvariate(3, 1), 2),
            }
            label: dict[str, object] = {"event_id": event_id, "label": int(bot)}
            if bot:
                kind = families[user // 10 % len(families)]
                label |= {"attack": kind, "difficulty": "hard", "campaign": f"c{user}"}
            elif sale:
                label |= {"look_alike": "flash_sale"}
            events.append((at_ms, event))
            labels.append(label)
    events.sort(key=lambda pair: pair[0])
    files = Files(folder / f"{name}.jsonl", folder / f"{name}.labels.jsonl")
    files.data.write_bytes(b"\n".join(msgspec.json.encode(e) for _, e in events))
    files.labels.write_bytes(b"\n".join(map(msgspec.json.encode, labels)))
    return files


class Parts(msgspec.Struct):
    past: Files
    first: Files
    second: Files

    def inputs(self, labelled: bool = True) -> Inputs:
        return Inputs(
            data=(self.past.data,),
            labels=(self.past.labels,) if labelled else (),
            tests=(self.first.data, self.second.data),
            test_labels=(self.first.labels, self.second.labels),
        )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("evaluate")
    return Parts(
        write(folder, "past", seed=1, families=("flood",), users=200),
        write(folder, "one", seed=2, hour=24),
        write(folder, "two", seed=3, hour=24),
    )


@pytest.fixture(scope="module")
def found(parts: Parts) -> Evaluation:
    return evaluate(
        Request(
            inputs=parts.inputs(),
            models=(Model(name="tiny", folder=SHIPPED),),
            baselines=("velocity",),
            bootstrap=30,
            device="cpu",
            command="shopsentry evaluate …",
        )
    )


class Spy:
    """Scores by a number that it keeps, and tells what it was given."""

    name = "spy"
    labels = True

    def __init__(self) -> None:
        self.fitted: list[set[str]] = []

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self.fitted = [{data.event_ids[at] for at in some.tolist()} for some in (fit_on, choose_on)]

    def score(self, data: Dataset, events: Ints) -> np.ndarray:
        return 5 * data.anomalous[events] + np.linspace(0, 1, len(events))


def test_limits_and_calibration_come_from_events_that_nothing_was_fitted_on(parts: Parts) -> None:
    from models.evaluate.inputs import read_draw, read_history

    schema = schemas.load("shop")
    history = read_history(parts.inputs(), schema, WindowPolicy(), 0)
    spy = Spy()
    one = Baseline(spy, 3)
    one.prepare(history)
    fit_on, choose_on = spy.fitted
    assert fit_on
    assert choose_on
    assert not fit_on & choose_on
    assert one.limits[0.01] == pytest.approx(1, abs=0.03)
    data, events = read_draw(parts.inputs(), 0, schema, WindowPolicy())
    assert {data.event_ids[at][:3] for at in events.tolist()} == {"one"}
    assert data.windows.length[events].max() > 12  # windows reach back into the history
    judged = one.judge(data, events)
    assert judged.decided is not None
    assert (judged.decided == data.anomalous[events]).all()
    assert judged.probabilities is not None
    assert (judged.probabilities >= 0).all()
    assert (judged.probabilities <= 1).all()


def test_every_valid_draw_comes_after_the_history_for_itself(parts: Parts, tmp_path: Path) -> None:
    from models.evaluate.inputs import read_draw, read_history

    draws = [write(tmp_path, f"valid{n}", seed=5 + n, hour=12, users=150) for n in range(2)]
    inputs = msgspec.structs.replace(
        parts.inputs(labelled=False),
        valid=tuple(files.data for files in draws),
        valid_labels=tuple(files.labels for files in draws),
    )
    assert inputs.labelled
    schema = schemas.load("shop")
    history = read_history(inputs, schema, WindowPolicy(), 0)
    assert history.families == {"flood", "drip"}
    named = [
        [{d.data.event_ids[at].split("-")[0] for at in some} for some in (d.fit_on, d.choose_on)]
        for d in history.draws
    ]
    assert named == [[{"past", "valid0"}, {"valid0"}], [{"valid1"}, {"valid1"}]]
    users = [
        [{d.data.users[d.data.user[at]] for at in some} for some in (d.fit_on, d.choose_on)]
        for d in history.draws
    ]
    assert not (users[0][0] | users[1][0]) & (users[0][1] | users[1][1])  # a user in one part
    spy = Spy()
    Baseline(spy, 3).prepare(history)
    assert {name.split("-")[0] for name in spy.fitted[0]} == {"past", "valid0"}
    data, events = read_draw(inputs, 0, schema, WindowPolicy())
    told = [event_id.split("-")[0] for event_id in data.event_ids]
    assert list(dict.fromkeys(told)) == ["past", "valid0", "one"]
    assert {told[at] for at in events.tolist()} == {"one"}


def test_everything_that_was_asked_is_in_the_report(found: Evaluation) -> None:
    report = found.report
    assert list(report.detectors) == ["tiny", "velocity"]
    assert report.reference == "tiny"
    assert report.counts["draws"] == 2
    assert set(report.groups["family"]) == {"flood", "drip"}
    assert set(report.groups["seen"]) == {SEEN, UNSEEN}  # drip is not in the history's labels
    own = report.detectors["tiny"]
    for measure in ("average_precision", "roc_auc", "recall@0.1%", "recall@1%", "look_alike_auc"):
        assert measure in own.figures
    assert "look_alike_auc" in own.groups["difficulty"]["hard"]
    assert {"decisions", "calibration", "delays", "look_alikes", "budgets"} <= set(own.details)
    assert report.differences["velocity"]["average_precision"].misses_removed is not None
    assert set(found.models) == {"tiny"}
    assert all(len(digest) == 64 for digest in found.files.values())
    assert found.drift
    titles = [table.title for table in tables(found)]
    assert titles[0] == "All detectors"
    assert "Detection delay: a campaign's first alert" in titles
    assert all(len(row) == len(t.head) for t in tables(found) for row in t.rows)


def test_the_folder_is_the_same_again_and_its_page_needs_nothing_else(
    found: Evaluation, tmp_path: Path
) -> None:
    from models.evaluate.folder import write as write_folder

    for name in ("a", "b"):
        write_folder(tmp_path / name, found)
    for file in ("report.json", "report.md", "report.html"):
        content = (tmp_path / "a" / file).read_bytes()
        assert content == (tmp_path / "b" / file).read_bytes()
    page = (tmp_path / "a" / "report.html").read_text("utf-8")
    assert page.count("<svg") >= 9
    assert not re.findall(r"<(?:script|link|img|iframe|object|embed|base)\b", page)
    assert not re.findall(r"@import|<!ENTITY|DTD", page)
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert all(link.startswith("#") for link in re.findall(r"url\(([^)]*)\)", page))
    # What is left of addresses are names of XML namespaces; nothing fetches them.
    rest = re.sub(r'xmlns(?::\w+)?="[^"]*"', "", page)
    assert "http" not in rest
    told = msgspec.json.decode((tmp_path / "a" / "report.json").read_bytes())
    assert told["report"]["detectors"]["tiny"]["figures"]["average_precision"]["low"] is not None
    text = (tmp_path / "a" / "report.md").read_text("utf-8")
    assert re.search(r"## Calibration\n\n.*\n.*\n\| tiny \| 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]", text)
    assert re.search(r"## Alert budgets: .*\n\n.*\n.*\n\| tiny \| .* % \[.* % to .* %\] \|", text)


def test_what_stands_in_names_does_not_become_markup(found: Evaluation, tmp_path: Path) -> None:
    from models.evaluate.folder import write as write_folder

    write_folder(tmp_path, msgspec.structs.replace(found, notes=["<script>alert(1)</script>"]))
    assert "<script" not in (tmp_path / "report.html").read_text("utf-8")


def test_without_labels_of_the_history_what_learns_from_labels_is_left_out(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.baselines import detectors as made
    from models.evaluate import run

    monkeypatch.setattr(run, "NAMES", ("velocity", "spy"))
    monkeypatch.setattr(run, "OF_SCHEMA", ())
    monkeypatch.setattr(
        run,
        "detectors",
        lambda names, seed, threads, **more: [
            Spy() if name == "spy" else made([name], seed, threads)[0] for name in names
        ],
    )
    request = Request(inputs=parts.inputs(labelled=False), bootstrap=0, unseen=("drip",))
    found = evaluate(request)
    assert list(found.report.detectors) == ["velocity"]
    assert any("spy" in note for note in found.notes)
    assert set(found.report.groups["seen"]) == {SEEN, UNSEEN}
    with pytest.raises(Misconfigured, match="spy learns from labels"):
        evaluate(msgspec.structs.replace(request, baselines=("spy",)))


def test_models_of_one_name_are_seeds(parts: Parts) -> None:
    models = (Model(name="m", folder=SHIPPED), Model(name="m", folder=SHIPPED))
    request = Request(inputs=parts.inputs(), models=models, baselines=(), bootstrap=0, device="cpu")
    found = evaluate(request)
    assert [len(by_draw) for by_draw in found.report.detectors["m"].runs["roc_auc"]] == [2, 2]
    assert len(found.models["m"]) == 2


def test_baselines_are_judged_with_the_settings_of_files(parts: Parts, tmp_path: Path) -> None:
    loose, trees = tmp_path / "velocity.toml", tmp_path / "forest.toml"
    loose.write_text("[velocity]\nquantile = 0.9\n")
    trees.write_text("[isolation-forest]\ntrees = 20\n")
    names = ("velocity", "isolation-forest")
    request = Request(inputs=parts.inputs(), baselines=names, bootstrap=0)
    usual = evaluate(request)
    found = evaluate(msgspec.structs.replace(request, settings=(loose, trees)))
    for name in names:
        figures = [one.report.figure(name, "roc_auc").value for one in (usual, found)]
        assert figures[0] != figures[1]
    assert {str(loose), str(trees)} == found.files.keys() - usual.files.keys()
    assert any(note.endswith("velocity, isolation-forest.") for note in found.notes)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[stack]\nleaves = 7", r"settings of \[stack\], which is none of the baselines"),
        ("[train]\nrate = 0.1", r"settings of \[train\], which is none"),
        ("[velocity]\nspeed = 1", "velocity has no setting 'speed': it has quantile"),
        ("[velocity]\nquantile = 'much'", "quantile of velocity is 'much': it must be a number"),
        ("[hbos]\nbins = 2.5", "bins of hbos is 2.5: it must be a whole number"),
        ("[hbos]\nbins = 0", "it must be above 0"),
        ("quantile = 1", "stands in no table"),
        ("[velocity", "is no TOML"),
    ],
)
def test_settings_that_cannot_be_are_told(
    text: str, why: str, parts: Parts, tmp_path: Path
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    request = Request(
        inputs=parts.inputs(), baselines=("velocity", "hbos"), settings=(path,), bootstrap=0
    )
    with pytest.raises(Misconfigured, match=why):
        evaluate(request)


def test_two_files_with_settings_of_one_baseline_are_refused(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[velocity]\nquantile = 0.9")
    request = Request(inputs=parts.inputs(), settings=(path, path), bootstrap=0)
    with pytest.raises(Misconfigured, match=r"another file has settings of \[velocity\]"):
        evaluate(request)


def test_wrong_use_is_told(parts: Parts, tmp_path: Path) -> None:
    good = parts.inputs()

    def refused(match: str, inputs: Inputs = good, **settings: object) -> None:
        given = {"baselines": ("velocity",), **settings}
        request = msgspec.structs.replace(Request(inputs=inputs, bootstrap=0), **given)
        with pytest.raises(Misconfigured, match=match):
            evaluate(request)

    replace = msgspec.structs.replace
    refused("nothing to judge", baselines=())
    refused("one for each draw", replace(good, test_labels=good.test_labels * 2))
    refused("is no file", replace(good, tests=(tmp_path / "none", tmp_path / "none")))
    refused("fitted on a history", replace(good, data=(), labels=()), baselines=("velocity",))
    refused("labels, but not the events", replace(good, data=()))
    refused(r"do the files\s+belong\s+together", replace(good, test_labels=good.labels))
    refused(r"do the files\s+belong\s+together", replace(good, labels=good.test_labels[:1]))
    refused("new after the history", replace(good, tests=good.data, test_labels=good.labels))
    refused("no baseline 'guess'", baselines=("guess",))
    refused("family 'flod'; there are drip, flood", unseen=("flod",))


def test_drift_is_found_in_the_field_that_moved(parts: Parts, tmp_path: Path) -> None:
    assert psi(np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])) == 0
    # By hand: (0.75 - 0.5) ln 1.5 + (0.25 - 0.5) ln 0.5
    moved = psi(np.array([0, 1]), np.array([0, 0, 0, 1]))
    assert moved == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5))
    schema = schemas.load("shop")
    later = write(tmp_path, "later", seed=9, hour=24, users=200, price=20)
    data = read([parts.past.data, later.data], [], schema, WindowPolicy())
    before, after = np.flatnonzero(data.file == 0), np.flatnonzero(data.file == 1)
    found = drift_of(data, before, after, schema)
    assert found["price"] > MUCH
    assert found["type"] < 0.1
    assert all(value == 0 for value in drift_of(data, before, before, schema).values())


def test_a_field_that_gives_attacks_away_is_told(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "leak.jsonl"
    bots = {
        msgspec.json.decode(line)["event_id"]
        for line in parts.past.labels.read_bytes().splitlines()
        if b'"label":1' in line
    }
    lines = [msgspec.json.decode(line) for line in parts.past.data.read_bytes().splitlines()]
    for event in lines:
        event["price"] = 1000 if event["event_id"] in bots else 10
    path.write_bytes(b"\n".join(map(msgspec.json.encode, [*lines, "no event"])))
    data = read([path], [parts.past.labels], schemas.load("shop"), WindowPolicy())
    found = leaking_fields(lines_of([path]), data)
    assert found["leaks"]["price"] == 1
    assert found["against"] == "hard attacks"


def test_the_leak_audit_tells_fields_that_do_not_leak_too(
    found: Evaluation, tmp_path: Path
) -> None:
    audit = {"against": "hard", "fields": {"hour": 0.5, "price": 0.9}, "leaks": {"price": 0.9}}
    report_folder.prepare(tmp_path / "out")
    report_folder.write(tmp_path / "out", msgspec.structs.replace(found, leaks=[audit]))
    told = (tmp_path / "out" / "report.md").read_text()
    assert "| 1 | price | hard | 0.900 | leaks |" in told
    assert "| 1 | hour | hard | 0.500 |" in told


def test_the_command_writes_a_report_and_tells_what_is_wrong(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stream_app.cli import main

    arguments = ["evaluate", "--data", parts.past.data, "--out", tmp_path / "out"]
    arguments += ["--test", parts.first.data, "--test-labels", parts.first.labels]
    arguments += ["--baselines", "velocity", "--bootstrap", "20"]
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert ended.value.code == 0
    assert "velocity" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    (tmp_path / "settings.toml").write_text("[velocity]\nquantile = 0.9\n")
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--settings", str(tmp_path / "settings.toml")])
    assert ended.value.code == 0
    assert "settings.toml" in (tmp_path / "out" / "report.json").read_text()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--test-labels", str(parts.second.labels)])
    assert ended.value.code == 2
    assert "one for each draw" in " ".join(capsys.readouterr().err.split())
