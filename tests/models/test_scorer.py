from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models import committee, judge, scorer
from models.bundle import Bundle, score
from models.committee import Opinions
from models.dataset import Dataset
from models.inference import Raw, run
from models.members import Members
from models.scorer import BundleScorer
from stream_app.core.errors import DeviceFailed
from stream_app.core.score import Scores
from stream_app.core.window import Windows


@pytest.fixture
def scoring(bundle: Bundle) -> Iterator[BundleScorer]:
    made = BundleScorer(bundle)
    yield made
    made.close()


async def test_requests_that_wait_together_get_each_its_own_scores(
    scoring: BundleScorer, dataset: Dataset, some: np.ndarray
) -> None:
    parts = np.array_split(some, 9)
    asked = [scoring.score(dataset.windows.take(p), dataset.task[p]) for p in parts]
    found = np.concatenate([s.calibrated for s in await asyncio.gather(*asked)])
    alone = score(scoring.bundle, dataset.windows.take(some), dataset.task[some])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert ((found >= 0) & (found <= 1)).all()


async def test_no_windows_need_no_device(scoring: BundleScorer, dataset: Dataset) -> None:
    none = dataset.windows.take(np.zeros(0, np.int64))
    assert len((await scoring.score(none, dataset.task[:0])).calibrated) == 0
    assert await scoring.explain(none, dataset.task[:0]) == []


async def test_a_window_that_is_out_of_bounds_is_nan_and_its_neighbours_are_unharmed(
    scoring: BundleScorer, dataset: Dataset, some: np.ndarray
) -> None:
    few = some[:20]
    windows, tasks = dataset.windows.take(few), dataset.task[few]
    clean = await scoring.score(windows, tasks)
    index = windows.index.copy()
    index[7, -1] = len(windows.rows) + 5
    poisoned = Windows(windows.rows, index, windows.length)
    found = await scoring.score(poisoned, tasks)
    assert np.isnan(found.calibrated).nonzero()[0].tolist() == [7]
    assert np.isnan(found.surprise).nonzero()[0].tolist() == [7]
    rest = np.arange(20) != 7
    np.testing.assert_allclose(found.calibrated[rest], clean.calibrated[rest], atol=1e-5)
    assert (await scoring.explain(poisoned, tasks))[7] == ()


async def test_a_window_that_makes_a_pass_fail_is_found_by_halving(
    scoring: BundleScorer, dataset: Dataset, some: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = some[:33]
    windows, tasks = dataset.windows.take(few), dataset.task[few]
    clean = await scoring.score(windows, tasks)
    culprit = int(windows.index[11, -1])

    def fails(members: Members, names: tuple[str, ...], windows: Windows, *rest: Any) -> Opinions:
        if (windows.index[:, -1] == culprit).any():
            raise RuntimeError("out of memory")
        return committee.hear(members, names, windows, *rest)

    monkeypatch.setattr(judge, "hear", fails)
    found = await scoring.score(windows, tasks)
    assert np.isnan(found.calibrated).nonzero()[0].tolist() == [11]
    rest = np.arange(33) != 11
    np.testing.assert_allclose(found.calibrated[rest], clean.calibrated[rest], atol=1e-5)


async def test_a_lost_device_ends_the_scorer_for_all_who_ask(
    scoring: BundleScorer, dataset: Dataset, some: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> Opinions:
        raise DeviceFailed("gone")

    monkeypatch.setattr(judge, "hear", lost)
    windows, tasks = dataset.windows.take(some[:3]), dataset.task[some[:3]]
    for ask in (scoring.score, scoring.score, scoring.explain):
        with pytest.raises(DeviceFailed, match="gone"):
            await ask(windows, tasks)


async def test_a_device_that_hangs_ends_the_scorer_and_does_not_hold_its_end(
    bundle: Bundle, dataset: Dataset, some: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(judge, "hear", lambda *_: hangs.wait())
    monkeypatch.setattr(scorer, "HANG_S", 0.2)
    monkeypatch.setattr(scorer, "LOOK_S", 0.05)
    monkeypatch.setattr(scorer, "CLOSE_S", 0.1)
    scoring = BundleScorer(bundle)
    windows, tasks = dataset.windows.take(some[:3]), dataset.task[some[:3]]
    asked = [scoring.score(windows, tasks), scoring.explain(windows, tasks)]
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(a, DeviceFailed) and "has not answered" in str(a) for a in answers)
    with pytest.raises(DeviceFailed):
        await scoring.score(windows, tasks)
    await asyncio.to_thread(scoring.close)
    hangs.set()
    await asyncio.to_thread(scoring._thread.join)


async def test_a_closed_scorer_leaves_nobody_waiting(
    bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    scoring = BundleScorer(bundle)
    windows, tasks = dataset.windows.take(some[:3]), dataset.task[some[:3]]
    waiting = asyncio.ensure_future(scoring.score(windows, tasks))
    await asyncio.sleep(0)
    scoring.close()
    (found,) = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(found, DeviceFailed | Scores)  # dropped, or under way before
    with pytest.raises(DeviceFailed, match="closed"):
        await scoring.score(windows, tasks)


class Device:
    """In the place of a `RecordedReader`: computes when asked for it, `over` once two have begun.

    `fails`: which of the batches that are begun."""

    most = 1000

    def __init__(self, bundle: Bundle, fails: tuple[int, ...] = ()) -> None:
        self.bundle, self.fails = bundle, fails
        self.begun = self.under_way = self.together = 0
        self.first = threading.Event()

    def run(self, windows: Windows) -> Raw:
        return run(self.bundle.network, windows, torch.device("cpu"), likelihood=True)

    def begin(self, windows: Windows) -> Any:
        self.begun, self.under_way = self.begun + 1, self.under_way + 1
        self.together = max(self.together, self.under_way)
        self.first.set()
        number = self.begun

        def collect() -> Raw:
            self.under_way -= 1
            if number in self.fails:
                raise RuntimeError("out of memory")
            return self.run(windows)

        return SimpleNamespace(over=lambda: self.begun > 1, collect=collect)


@pytest.mark.parametrize("fails", [(), (1,), (2,)])
async def test_a_batch_is_begun_while_the_device_computes_the_one_before(
    scoring: BundleScorer,
    dataset: Dataset,
    some: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    fails: tuple[int, ...],
) -> None:
    device = Device(scoring.bundle, fails)
    monkeypatch.setattr(scoring._judge, "_recorded", device)
    monkeypatch.setattr(scoring._judge, "_likely", device)
    first, second = some[:20], some[20:50]
    asked = [asyncio.ensure_future(scoring.score(dataset.windows.take(first), dataset.task[first]))]
    await asyncio.to_thread(device.first.wait, 20)
    asked += [
        asyncio.ensure_future(scoring.score(dataset.windows.take(part), dataset.task[part]))
        for part in np.array_split(second, 3)
    ]
    async with asyncio.timeout(20):
        found = np.concatenate([told.calibrated for told in await asyncio.gather(*asked)])
    both = some[:50]
    alone = score(scoring.bundle, dataset.windows.take(both), dataset.task[both])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert device.together == 2


async def test_what_a_device_has_begun_is_finished_when_the_scorer_is_closed(
    bundle: Bundle, dataset: Dataset, some: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring, device = BundleScorer(bundle), Device(bundle)
    monkeypatch.setattr(scoring._judge, "_recorded", device)
    monkeypatch.setattr(scoring._judge, "_likely", device)
    windows, tasks = dataset.windows.take(some[:9]), dataset.task[some[:9]]
    asked = asyncio.ensure_future(scoring.score(windows, tasks))
    await asyncio.to_thread(device.first.wait, 20)
    await asyncio.to_thread(scoring.close)
    np.testing.assert_allclose((await asked).calibrated, score(bundle, windows, tasks), atol=1e-5)


async def test_reasons_are_the_same_each_time_and_in_words(
    scoring: BundleScorer, dataset: Dataset, some: np.ndarray
) -> None:
    bots = np.flatnonzero(dataset.anomalous)[5:200:10]
    windows, tasks = dataset.windows.take(bots), dataset.task[bots]
    reasons = await scoring.explain(windows, tasks)
    assert reasons == await scoring.explain(windows, tasks)
    alone = await scoring.explain(windows.take(np.array([3])), tasks[3:4])
    assert [(r.field, r.events_back) for r in alone[0]] == [
        (r.field, r.events_back) for r in reasons[3]
    ]
    for row, length in zip(reasons, windows.length, strict=True):
        assert 1 <= len(row) <= 3
        assert sum(r.share for r in row) <= 1.001
        assert all(0 <= r.events_back < length and r.observed and r.expected for r in row)
