"""Counters as fields of a row, from the file to the score: schema `shop-counters`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from typer.testing import CliRunner

from models import bundle as bundles
from models import schema as schemas
from models.committee import known_facts
from models.counters.act import Clock, believed
from models.counters.aggregates import aggregate
from models.counters.counting import Counting
from models.dataset import Dataset, read
from models.encoding import SchemaEncoder
from models.features import fact_names
from models.schema import COUNTED, Schema
from models.training import Options, Sources, train
from stream_app.cli import app as cli
from stream_app.commands import doctor
from stream_app.core.errors import Misconfigured
from stream_app.edges.auditing import Gathered
from stream_app.offline import Judged
from stream_app.settings import Settings
from stream_app.wiring import Outputs, offline_scorer, prepared_worker
from tests.models.conftest import Files


@pytest.fixture(scope="module")
def schema() -> Schema:
    return schemas.load("shop-counters")


@pytest.fixture(scope="module")
def counted(files: Files, schema: Schema) -> Dataset:
    return read([files.data], [files.labels], schema, schema.window)


@pytest.fixture(scope="module")
def folder(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("counters") / "shop"
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(
        epochs=1, pretrain_epochs=1, seed=3, device="cpu", schema="shop-counters",
        members=("bert", "trees"),
    )  # fmt: skip
    return train(sources, out, options).folder


def columns_of(data: Dataset, schema: Schema) -> np.ndarray:
    rows = data.windows.rows[data.row]
    return np.stack([rows[f"{COUNTED}{at}"] for at in range(len(schema.counter_names))], 1)


def test_a_row_has_the_counters_of_its_event(
    files: Files, counted: Dataset, shop: Schema, schema: Schema
) -> None:
    plain = aggregate(read([files.data], [], shop, shop.window))
    assert schema.counter_names == plain.names
    expected = plain.values.astype(np.float16)
    np.testing.assert_array_equal(columns_of(counted, schema), expected)


def test_batches_change_nothing(counted: Dataset, schema: Schema) -> None:
    rows = counted.windows.rows[counted.row]
    users = [counted.users[at].encode() for at in counted.user.tolist()]
    names = [f"{COUNTED}{at}" for at in range(len(schema.counter_names))]
    again = rows.copy()
    for name in names:
        again[name] = 0
    counting, at = Counting(schema), 0
    for size in (1, 2, 3, 100, len(rows)):
        some = slice(at, at + size)
        part = again[some]
        counting.fill(users[some], part)
        again[some], at = part, at + size
    for name in names:
        np.testing.assert_array_equal(again[name], rows[name])


def test_a_clock_reads_batches_as_one(schema: Schema) -> None:
    dice = np.random.default_rng(0)
    at_ms = np.cumsum(dice.integers(-2000, 5000, 300)) + 10**9
    at_ms[[40, 41, 170]] += 10**9  # clocks far ahead
    clock, parts = Clock(), np.split(at_ms, [1, 2, 41, 42, 150])
    np.testing.assert_array_equal(
        np.concatenate([clock.read(part) for part in parts]), believed(at_ms)
    )


def test_trees_see_them_and_a_schema_without_has_none(
    counted: Dataset, shop: Schema, schema: Schema
) -> None:
    assert shop.counter_names == ()
    names = fact_names(schema)
    first = names.index(f"counter: {schema.counter_names[0]}")
    facts = known_facts(schema, counted.windows.take(np.arange(50)), torch.device("cpu"))
    told = facts[:, first : first + len(schema.counter_names)]
    seen = columns_of(counted, schema)[:50].astype(np.float32)
    np.testing.assert_allclose(told, seen, atol=1e-3)  # facts are rounded
    assert schemas.parse(schemas.dump(schema)) == schema


def test_no_baseline_takes_them_for_values(counted: Dataset, schema: Schema) -> None:
    bare = structs.replace(schema, counters=False)
    assert not any(name.startswith(COUNTED) for name in SchemaEncoder(bare).row.names or ())
    assert not any(COUNTED in name for name in aggregate(counted).names)


def test_a_file_is_scored_as_training_saw_it(folder: Path, files: Files) -> None:
    bundle = bundles.load(folder, "cpu")
    data = read([files.data], [], bundle.schema, bundle.schema.window)
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


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_worker_counts_where_all_events_come_in_one_partition(
    folder: Path, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    async def in_place(settings: Settings, width: int) -> Outputs:
        assert width == 1, "the input topic is made with one, if it is not there"
        return Outputs({}, 0, partitions)

    monkeypatch.setattr("stream_app.wiring._look_around", in_place)
    settings = Settings.model_validate({"scorer": {"bundle": folder, "device": "cpu"}})
    if partitions == 1:
        assert prepared_worker(settings).app
    else:
        with pytest.raises(Misconfigured, match="one partition"):
            prepared_worker(settings)


@pytest.mark.parametrize(("partitions", "status"), [(1, "ok"), (4, "failure")])
def test_the_doctor_tells_of_events_in_several_partitions(
    folder: Path, monkeypatch: pytest.MonkeyPatch, partitions: int, status: str
) -> None:
    async def counts(*_: object) -> dict[str, int]:
        return {"events": partitions}

    monkeypatch.setattr("stream_app.edges.kafka_admin.partition_counts", counts)
    settings = Settings.model_validate(
        {"scorer": {"bundle": folder, "device": "cpu"}, "kafka": {"input_topics": ["events"]}}
    )
    checks = dict(doctor.checks(settings))
    (found,) = [f for f in checks["bundle"]() if f.what == "counters"]
    assert found.status == status


def test_an_audit_compares_no_counters_where_older_records_are_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Gathered([], {}, {}, False, 0)
    monkeypatch.setattr("stream_app.edges.auditing.gather", lambda *_: gone)
    monkeypatch.setattr("stream_app.commands.audit._rules", lambda *_: None)
    told = CliRunner().invoke(cli, ["audit", "--model", str(folder)])
    assert told.exit_code == 2
    assert "older records" in told.stderr
