"""Attributions add up, depend on the past alone, and what they call strong matters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.bundle import Bundle
from models.dataset import Dataset
from models.explain.attribution import TOLERANCE, Method, attribute, by_cell
from models.explain.deletion import (
    estimate,
    interval,
    shuffled,
    strongest,
    strongest_events,
    weigh,
    without_cells,
    without_events,
)
from models.explain.hits import LAST, PLANTS, cells_hit, events_hit, plant
from models.inference import run
from models.reasons import Explainer
from stream_app.core.window import Ints, Windows

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def caught(dataset: Dataset, bundle: Bundle) -> tuple[Windows, Ints, np.ndarray]:
    """Windows of bots that score high, their tasks, their raw scores."""
    raw = run(bundle.network, dataset.windows, CPU).logits[np.arange(len(dataset)), dataset.task]
    longer = dataset.anomalous & (dataset.windows.length > 4)
    events = np.flatnonzero(longer & (raw > np.median(raw[dataset.anomalous])))[::12]
    return dataset.windows.take(events), dataset.task[events], raw[events]


def test_the_path_adds_up_to_what_the_raw_score_rose(
    bundle: Bundle, caught: tuple[Windows, Ints, np.ndarray]
) -> None:
    windows, tasks, raw = caught[0].take(np.arange(8)), caught[1][:8], caught[2][:8]
    weights = weigh(bundle.network, windows, tasks, CPU, "path")
    total = np.array([table.sum() for table in weights.tables])
    np.testing.assert_array_less(weights.off, TOLERANCE * np.maximum(np.abs(weights.rise), 1))
    np.testing.assert_allclose(total, weights.rise, atol=0.02 * np.abs(weights.rise).max())
    typical = raw - weights.rise
    assert np.ptp(typical[windows.length == windows.length[0]]) < 1e-3  # the same window for all


@pytest.mark.parametrize("method", ["gradient", "path"])
def test_a_window_is_explained_the_same_in_any_company(
    bundle: Bundle, dataset: Dataset, some: Ints, method: Method
) -> None:
    events = some[:9]
    together = weigh(
        bundle.network, dataset.windows.take(events), dataset.task[events], CPU, method
    ).tables
    for at, event in enumerate(events):
        one = np.array([event])
        alone = weigh(bundle.network, dataset.windows.take(one), dataset.task[one], CPU, method)
        np.testing.assert_allclose(alone.tables[0], together[at], atol=1e-4)


def test_cells_lose_nothing_of_the_inputs(bundle: Bundle, dataset: Dataset, some: Ints) -> None:
    windows, tasks = dataset.windows.take(some[:5]), dataset.task[some[:5]]
    for found in attribute(bundle.network, windows, tasks, CPU):
        cells = by_cell(bundle.network, found.by_input)
        torch.testing.assert_close(cells.sum(-1), found.by_input.sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["gradient", "path"])
def test_the_strongest_cells_bear_the_score_and_the_weakest_do_not(
    bundle: Bundle, caught: tuple[Windows, Ints, np.ndarray], method: Method
) -> None:
    windows, tasks, raw = caught
    first = strongest(weigh(bundle.network, windows, tasks, CPU, method).tables)
    orders = {
        "first": first,
        "any": shuffled(first, np.random.default_rng(0)),
        "last": [order[::-1] for order in first],
    }
    fall = {
        name: raw.mean() - without_cells(bundle.network, windows, tasks, CPU, order, (1, 5)).mean(0)
        for name, order in orders.items()
    }
    assert (fall["first"] > 5 * np.abs(fall["any"])).all()
    assert (fall["last"] <= fall["any"]).all()


def test_nothing_taken_away_changes_nothing(
    bundle: Bundle, caught: tuple[Windows, Ints, np.ndarray]
) -> None:
    windows, tasks, raw = caught
    tables = weigh(bundle.network, windows, tasks, CPU).tables
    for without, order in (
        (without_cells, strongest(tables)),
        (without_events, strongest_events(tables)),
    ):
        found = without(bundle.network, windows, tasks, CPU, order, (0,))
        np.testing.assert_allclose(found[:, 0], raw, atol=1e-4)


def test_without_all_its_past_an_event_stands_alone(
    bundle: Bundle, caught: tuple[Windows, Ints, np.ndarray]
) -> None:
    windows, tasks, _ = caught
    orders = [np.arange(length - 1) for length in windows.length]
    found = without_events(bundle.network, windows, tasks, CPU, orders, (64,))[:, 0]
    alone = Windows(windows.rows, windows.index, np.ones_like(windows.length))
    expected = run(bundle.network, alone, CPU).logits[np.arange(len(alone)), tasks]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_plant_touches_the_cells_that_it_changes_and_no_earlier_event(
    bundle: Bundle, dataset: Dataset
) -> None:
    longer = np.flatnonzero(~dataset.anomalous & (dataset.windows.length > LAST + 3))[:20]
    windows, cells = dataset.windows.take(longer), list(bundle.network.cells()[0])
    expected = {
        "equal gaps": "equal gaps",
        "gaps / 30": "events in 10 s",
        "one item": "item",
        "strange items": "item",
        "purchases": "type",
    }
    for name, kind in PLANTS.items():
        made = plant(bundle.network, windows, kind, 0, CPU)
        raw, twin = (run(bundle.network, w, CPU).logits for w in (windows, made.before))
        np.testing.assert_allclose(raw, twin, atol=1e-4)
        touched = np.stack([flags[-LAST - 1 :] for flags in made.touched])
        assert touched[:, :, cells.index(expected[name])].any()
        assert not any(flags[:-LAST].any() for flags in made.touched), name


def test_a_hit_is_a_strongest_cell_or_event_that_is_the_attackers() -> None:
    truth = np.array([[False, True], [False, False]])
    assert cells_hit([np.array([1, 0, 2])], [truth], 1) == 1
    assert cells_hit([np.array([1, 0, 2])], [truth], 2) == 0.5
    assert cells_hit([np.array([], int)], [truth], 2) == 0
    assert events_hit([np.array([0.1, 0.9])], [np.array([True, False])]) == 0


def test_reasons_are_the_strongest_cells_newest_first_among_equals(
    bundle: Bundle, caught: tuple[Windows, Ints, np.ndarray]
) -> None:
    windows, tasks, _ = caught
    explainer = Explainer(bundle.network, bundle.statistics, CPU)
    tables = weigh(bundle.network, windows, tasks, CPU).tables
    cells = list(bundle.network.cells()[0])
    for reasons, table in zip(explainer.explain(windows, tasks.tolist()), tables, strict=True):
        assert reasons
        for reason in reasons:
            weight = table[len(table) - 1 - reason.events_back, cells.index(reason.field)]
            assert reason.share == pytest.approx(weight / np.maximum(table, 0).sum(), abs=1e-3)


def test_intervals_know_that_events_of_a_campaign_are_alike() -> None:
    rng = np.random.default_rng(0)
    by_campaign = rng.normal(size=20)
    values, groups = np.repeat(by_campaign, 50), np.repeat(np.arange(20), 50)
    mean, low, high = interval(values, groups, rng)
    assert low < mean < high
    _, narrow_low, narrow_high = interval(values, np.arange(1000), rng)
    assert high - low > 4 * (narrow_high - narrow_low)
    pairs = np.stack([values, values - 1], 1)
    assert estimate(pairs, groups, rng, lambda m: float(m[0] - m[1]))[1:] == pytest.approx((1, 1))
