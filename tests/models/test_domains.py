"""Other domains by configuration alone: a schema, a description of its people, nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models import schema as schemas
from models.dataset import read
from models.evaluate.inputs import Inputs
from models.evaluate.panel import AP
from models.evaluate.run import Model, Request, evaluate
from models.measures import average_precision
from models.simulate.domain import load, simulate
from models.simulate.shop import save
from models.training import Options, Sources, train
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy

DOMAINS = ("finance", "smart-home")


@pytest.mark.parametrize("name", DOMAINS)
def test_events_fit_their_schema_and_come_in_order(name: str, tmp_path: Path) -> None:
    made = simulate(load(name), 1, 3000)
    save(made, tmp_path / "events", tmp_path / "labels")
    data = read([tmp_path / "events"], [tmp_path / "labels"], schemas.load(name), WindowPolicy())
    assert len(data) == len(made) == 3000
    assert data.put_aside == 0
    assert (np.diff(data.windows.rows["at_ms"].astype(np.int64)) >= 0).all()
    scenes = Counter(data.of("family")) + Counter(data.of("look_alike"))
    assert all(scenes[scene.name] > 0 for scene in load(name).scenes)
    assert 0.015 < data.anomalous.mean() < 0.06


def test_the_same_seed_gives_the_same_events() -> None:
    bank = load("finance")
    assert simulate(bank, 5, 500) == simulate(bank, 5, 500) != simulate(bank, 6, 500)


def test_an_unknown_domain_is_told_with_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match="shop, finance, smart-home"):
        load("zoo")


@pytest.mark.slow
@pytest.mark.parametrize("name", DOMAINS)
def test_a_model_of_the_domain_finds_its_anomalies(name: str, tmp_path: Path) -> None:
    files = {}
    for part, seed, events in (("fit", 1, 12_000), ("test", 2, 6_000)):
        files[part] = (tmp_path / f"{part}.jsonl", tmp_path / f"{part}.labels")
        save(simulate(load(name), seed, events, anomalies=0.06), *files[part])
    data, labels = files["fit"]
    train(
        Sources(data=[data], labels=[labels], simulate=0),
        tmp_path / "bundle",
        Options(schema=name, epochs=3, pretrain_epochs=0, device="cpu"),
    )
    bundle = bundles.load(tmp_path / "bundle", "cpu")
    assert bundle.schema.name == name
    test = read([files["test"][0]], [files["test"][1]], bundle.schema, WindowPolicy())
    scores = bundles.score(bundle, test.windows, test.task)
    found = average_precision(scores, test.anomalous)
    assert found > 5 * test.anomalous.mean()
    request = Request(
        inputs=Inputs(tests=files["test"][:1], test_labels=files["test"][1:]),
        models=(Model(name=name, folder=tmp_path / "bundle"),),
        bootstrap=0,
        device="cpu",
    )
    report = evaluate(request).report
    assert report.figure(name, AP).value == pytest.approx(found, abs=1e-3)
    assert set(report.groups["family"]) == {s.name for s in load(name).scenes if not s.normal}
