"""What aggregates know of an event: its past, all of it, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.baselines.look_back import NAMES, look_back
from models.baselines.scale import Scale
from models.baselines.unlabelled import ecod
from models.counters.act import believed
from models.counters.aggregates import Aggregates, Memory, aggregate
from models.dataset import Dataset, concat, read
from models.schema import Schema
from stream_app.core.window import WindowPolicy
from tests.models.conftest import START_MS, Files


def told(found: Aggregates, name: str) -> NDArray[np.float32]:
    return found.values[:, found.names.index(name)]


def stream_of(tmp_path: Path, shop: Schema, events: list[dict[str, Any]]) -> Dataset:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(json.dumps, events)), "utf-8")
    return read([path], [], shop, WindowPolicy())


def click(user: str, at_s: float, item: str, kind: str = "click") -> dict[str, Any]:
    at_ms = START_MS + int(at_s * 1000)
    return {
        "user_id": user,
        "type": kind,
        "event_time": at_ms,
        "item_id": item,
        "category_id": f"of {item}",
        "event_id": f"{user}-{at_s}-{item}",
    }


def test_a_future_changes_nothing(
    files: Files, dataset: Dataset, shop: Schema, tmp_path: Path
) -> None:
    lines = files.data.read_bytes().splitlines()
    half = len(lines) // 2
    known = aggregate(dataset)
    assert known.values.shape == (len(dataset), len(known.names))
    shuffled = lines[half:]
    random.Random(5).shuffle(shuffled)
    for number, future in enumerate(([], shuffled)):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"\n".join([*lines[:half], *future]))
        other = aggregate(read([path], [], shop, WindowPolicy()))
        np.testing.assert_array_equal(other.values[:half], known.values[:half])
    assert (
        np.nan_to_num(other.values[half:]) != np.nan_to_num(known.values[half : len(other.values)])
    ).any()


def test_data_sets_behind_one_another_do_not_share_a_past(dataset: Dataset) -> None:
    known = aggregate(dataset).values
    np.testing.assert_array_equal(
        aggregate(concat([dataset, dataset])).values, np.concatenate([known, known])
    )


def test_the_site_counts_others_on_an_item(tmp_path: Path, shop: Schema) -> None:
    #   a b c  on one item, a minute apart; then d there, and d elsewhere
    events = [click(user, 60 * n, "lamp") for n, user in enumerate("abcd")]
    found = aggregate(stream_of(tmp_path, shop, [*events, click("d", 200, "desk")]))
    np.testing.assert_allclose(told(found, "item events"), np.log1p([0, 1, 2, 3, 0]), rtol=1e-6)
    np.testing.assert_allclose(told(found, "visitors in 1 d"), np.log1p([0, 1, 2, 3, 0]), rtol=1e-6)
    np.testing.assert_allclose(told(found, "u events"), np.log1p([0, 0, 0, 0, 1]), rtol=1e-6)
    assert told(found, "gap")[-1] == pytest.approx(np.log1p(20))


def test_it_is_noticed_that_another_user_took_the_same_step(tmp_path: Path, shop: Schema) -> None:
    events = [
        click("a", 0, "lamp"), click("a", 5, "desk"), click("a", 9, "lamp"), click("a", 12, "desk"),
        click("b", 20, "lamp"), click("b", 25, "desk"),
    ]  # fmt: skip
    found = told(aggregate(stream_of(tmp_path, shop, events)), "step taken")
    assert found[3] == 0  # the user's own steps do not count
    assert found[5] > 0


def test_who_met_before_is_known_to_share_items(tmp_path: Path, shop: Schema) -> None:
    events = []
    for n, item in enumerate(["lamp", "desk", "rug"]):
        events += [click("a", 10 * n, item), click("b", 10 * n + 1, item)]
    found = told(aggregate(stream_of(tmp_path, shop, events)), "shared most")
    np.testing.assert_allclose(found[1::2], np.log1p([0, 1, 2]), rtol=1e-6)


def test_a_clock_far_ahead_is_not_believed() -> None:
    day_ms = 86_400_000
    at_ms = np.array([0, 1, 2, 900 * day_ms, 4, 5]) + START_MS
    found = believed(at_ms) - START_MS / 1000
    np.testing.assert_allclose(found, [0, 0.001, 0.002, 172800.002, 0.004, 0.005], atol=1e-3)
    years = np.array([0, 1, 400, 401, 402, 403]) * day_ms + START_MS  # the site was closed
    np.testing.assert_array_equal(believed(years)[-2:], years[-2:] / 1000)


def test_aggregates_are_made_once_and_forgotten_with_their_data(files: Files, shop: Schema) -> None:
    memory = Memory()
    data = read([files.data], [], shop, WindowPolicy())
    assert memory.of(data) is memory.of(data)
    del data
    assert not memory._kept


def test_a_look_back_knows_earlier_scores_alone(dataset: Dataset) -> None:
    logits = np.random.default_rng(0).normal(size=len(dataset))
    known = look_back(dataset, logits)
    at = len(dataset) // 2
    other = logits.copy()
    other[at] += 3
    changed = look_back(dataset, other)
    np.testing.assert_array_equal(changed[:at], known[:at])
    np.testing.assert_array_equal(changed[at, 1:], known[at, 1:])
    later = at + 1 + np.flatnonzero(dataset.user[at + 1 :] == dataset.user[at])
    assert (changed[later[0]] != known[later[0]]).any()


def test_a_look_back_at_an_item_leaves_out_the_users_own_events(
    tmp_path: Path, shop: Schema
) -> None:
    events = [click("a", 0, "lamp"), click("a", 5, "lamp"), click("b", 9, "lamp")]
    found = look_back(stream_of(tmp_path, shop, events), np.array([2.0, 2.0, 0.0]))
    means = found[:, NAMES.index("item's mean")]
    assert np.isnan(means[:2]).all()
    assert means[2] == pytest.approx(1 / (1 + np.exp(-2)))


def test_ecod_is_that_of_pyod_on_the_events_it_was_fitted_to() -> None:
    pyod = pytest.importorskip("pyod.models.ecod")
    points = np.random.default_rng(1).gamma(1.0, size=(300, 4))
    points[:, 1] *= -1
    expected = pyod.ECOD().fit(points).decision_scores_
    np.testing.assert_allclose(ecod(points, 0, 1)(points), expected)


def test_a_scale_leaves_out_what_tells_nothing() -> None:
    table = np.random.default_rng(2).normal(size=(1000, 4)).astype(np.float32)
    table[:, 1] = 7
    table[20:, 2] = np.nan
    table[::2, 3] = np.nan
    points = Scale(table).apply(table)
    assert points.shape == (1000, 2)
    assert (points[::2, 1] == 0).all()
    assert points[:, 0].std() == pytest.approx(1, abs=0.01)
