"""What the site saw of an event, from the file to the score: schema `shop-context`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from models import bundle as bundles
from models import schema as schemas
from models.dataset import read
from models.features import Columns, columns, describe, numbers
from models.schema import MISSING_ORDINAL, Schema
from models.training import Options, Sources, train
from stream_app.core.window import WindowPolicy
from stream_app.offline import Judged
from stream_app.settings import Settings
from stream_app.wiring import offline_scorer
from tests.models.conftest import Files


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schemas.load("shop-context")


@pytest.fixture(scope="module")
def folder(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("context") / "shop"
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(
        epochs=1, pretrain_epochs=1, seed=3, device="cpu", schema="shop-context", members=("bert",)
    )
    return train(sources, out, options).folder


def test_company_is_who_was_at_other_things_of_the_window_too(schema: Schema) -> None:
    dice = np.random.default_rng(0)
    rows = np.zeros(20, schema.row)
    rows["at_ms"] = np.arange(20) * 1000
    rows["item"] = dice.integers(0, 5, 20)
    names = [f"item_user{n}" for n in range(1, 5)]
    for name in names:
        rows[name] = dice.integers(0, 6, 20)
    held = columns(schema, rows).gather(torch.arange(20)[None])
    found = describe(schema, Columns(*held))[0]
    at = {number.name: place for place, number in enumerate(numbers(schema))}
    for place, row in enumerate(rows):
        users = [int(row[name]) for name in names]
        first = {int(r["item"]): [int(r[n]) for n in names] for r in rows[:place][::-1]}
        others = [seen for item, seen in first.items() if item and item != row["item"]]
        met = [
            sum(user in seen for seen in others) if user and row["item"] else 0 for user in users
        ]
        assert found[place, at["item company"]] == sum(m > 0 for m in met)
        assert found[place, at["item company most"]] == max(met)


def test_rows_of_a_file_hold_what_the_site_saw(files: Files, schema: Schema, shop: Schema) -> None:
    data = read([files.data], [files.labels], schema, WindowPolicy())
    plain = read([files.data], [files.labels], shop, WindowPolicy())
    rows = data.windows.rows
    for name in ("at_ms", "seq", "type", *(f.name for f in shop.fields)):
        np.testing.assert_array_equal(rows[name], plain.windows.rows[name])
    assert (data.windows.index == plain.windows.index).all()
    seen = rows["item_users"][rows["item_users"] != MISSING_ORDINAL]
    assert seen.max() > 3
    assert (rows["item_latest"] != MISSING_ORDINAL).sum() == (seen > 0).sum()


def test_a_file_is_scored_as_training_saw_it(folder: Path, files: Files) -> None:
    bundle = bundles.load(folder, "cpu")
    data = read([files.data], [], bundle.schema, WindowPolicy())
    expected = bundles.score(bundle, data.windows, data.task)
    settings = Settings.model_validate(
        {"scorer": {"device": "cpu", "threads": 1, "bundle": folder}}
    )
    scorer = offline_scorer(settings)

    async def score_all() -> list[Judged]:
        lines = files.data.read_bytes().splitlines()
        return [judged async for group in scorer.score(lines) for judged in group]

    judged = asyncio.run(score_all())
    assert [j.event_id for j in judged] == list(data.event_ids)
    np.testing.assert_allclose([j.score for j in judged], expected, atol=1e-4)
