"""Windows are computed once where one begins another, and cut into passes that hold them all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.dataset import Dataset
from models.flat import Bucket
from models.packing import Lines, lines_of, passes
from models.recorded import buckets, cut
from stream_app.core.window import Windows


def made(*rows: list[int]) -> Windows:
    """Windows of these row numbers, eight wide."""
    index = np.zeros((len(rows), 8), np.int64)
    for at, own in enumerate(rows):
        index[at, 8 - len(own) :] = own
    return Windows(np.zeros(100, "V40"), index, np.array([len(own) for own in rows]))


def test_a_window_that_begins_another_one_is_read_off_it() -> None:
    windows = made([4], [7, 8], [4, 5, 6], [4, 5], [7, 8])
    order = lines_of(windows, shared=True, sort=True)
    assert order.lines.tolist() in ([2, 1], [2, 4])
    assert sorted(order.windows[:3].tolist()) == [0, 2, 3]
    assert sorted(order.windows[3:].tolist()) == [1, 4]
    assert order.ends.tolist() == [3, 5]


def test_the_same_first_row_is_not_enough() -> None:
    order = lines_of(made([4, 9], [4, 5, 6], [4, 5]), shared=True, sort=True)
    assert order.lines.tolist() == [1, 0]
    assert sorted(order.windows[:2].tolist()) == [1, 2]
    assert order.windows[2:].tolist() == [0]


def test_lines_stay_as_they_stand_unless_the_longest_shall_come_first() -> None:
    windows = made([4, 9], [5], [1, 2, 3], [4], [6, 7])
    order = lines_of(windows, shared=True)
    assert order.lines.tolist() == [0, 1, 2, 4]
    assert order.windows.tolist() == [0, 3, 1, 2, 4]
    assert order.ends.tolist() == [2, 3, 4, 5]
    order = lines_of(windows, shared=True, sort=True)
    assert order.lines.tolist() == [2, 0, 4, 1]


def test_a_tensor_of_the_windows_tells_the_same(dataset: Dataset, some: np.ndarray) -> None:
    windows = dataset.windows.take(some)
    here = lines_of(windows, shared=True)
    there = lines_of(windows, shared=True, index=torch.from_numpy(windows.index))
    assert len(here.lines) < len(windows)
    assert here.lines.tolist() == there.lines.tolist()
    assert here.windows.tolist() == there.windows.tolist()
    assert here.ends.tolist() == there.ends.tolist()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_every_window_is_read_once_at_its_own_event(
    dataset: Dataset, some: np.ndarray, shared: bool, budget: int
) -> None:
    windows = dataset.windows.take(some)
    seen = []
    for one in passes(windows, budget, shared):
        assert one.index.size <= max(budget, one.index.shape[1])
        for window, line, place in zip(one.windows, one.line, one.place, strict=True):
            length = windows.length[window]
            assert place == length - 1
            own = windows.index[window, -length:]
            assert (one.index[line, :length] == own).all()
        seen += one.windows.tolist()
    assert sorted(seen) == list(range(len(windows)))


@pytest.mark.parametrize("seed", range(5))
def test_passes_fit_their_buckets_and_leave_nothing_out(seed: int) -> None:
    dice = np.random.default_rng(seed)
    length = np.sort(dice.integers(1, 65, 900))[::-1]
    readers = dice.integers(1, 9, 900)
    tokens = np.cumsum(length)
    order = Lines(np.arange(900), np.arange(readers.sum()), np.cumsum(readers))
    sizes = buckets(2048)
    assert sizes[-1] == Bucket(2048)
    lines = windows = 0
    for one in cut(order, tokens, sizes):
        assert (one.lines.start, one.windows.start) == (lines, windows)
        lines, windows = one.lines.stop, one.windows.stop
        held = int(tokens[lines - 1]) - one.first, lines - one.lines.start
        assert one.bucket.holds(*held, windows - one.windows.start)
        assert one.first == tokens[one.lines.start] - length[one.lines.start]
    assert (lines, windows) == (900, readers.sum())
