"""Windows cut for a worker that is behind."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.packing import lines_of
from stream_app.core.coalesce import coalesced
from stream_app.core.window import HEAD, Logs, WindowPolicy, Windows, as_of

SIZE = 8
POLICY = WindowPolicy(size=SIZE, slack=4, span_ms=1000)


def group(events: list[tuple[int, list[int]]]) -> tuple[Windows, Logs]:
    """For each user: rows before the group, and times of its rows; the others are the group."""
    times = [at for _, ats in events for at in ats]
    rows = np.zeros(len(times), list(HEAD))
    rows["at_ms"] = times
    start, place, first = [], [], 0
    for before, ats in events:
        for at in range(min(before, len(ats) - 1), len(ats)):
            start.append(first)
            place.append(first + at)
        first += len(ats)
    logs = Logs(rows, np.array(start), np.array(place))
    return as_of(logs, POLICY)[1], logs


def computed(windows: Windows) -> int:
    return int(windows.length[lines_of(windows, shared=True).lines].sum())


def test_windows_that_are_full_lose_their_beginning_to_be_read_off_the_newest() -> None:
    windows, logs = group([(8, list(range(11)))])
    assert (windows.length.tolist(), computed(windows)) == ([8, 8, 8], 24)
    cut, which = coalesced(windows, logs.start, logs.place)
    assert cut.length.tolist() == [6, 7, 8]
    assert which.tolist() == [True, True, False]
    assert computed(cut) == 8


def test_of_many_events_some_more_are_scored_so_that_none_loses_more_than_half() -> None:
    windows, logs = group([(20, list(range(40)))])
    cut, _ = coalesced(windows, logs.start, logs.place)
    assert cut.length.tolist() == [5, 6, 7, 8] * 5
    assert computed(cut) == 5 * 8


def test_windows_that_are_not_full_are_kept_whole() -> None:
    windows, logs = group([(2, list(range(6))), (0, [5])])
    cut, which = coalesced(windows, logs.start, logs.place)
    assert not which.any()
    assert cut.length.tolist() == windows.length.tolist()


def test_a_newest_window_that_is_short_makes_no_other_one_shorter() -> None:
    windows, logs = group([(0, [0] * 8 + [1000])])
    cut, which = coalesced(windows, logs.start, logs.place)
    assert not which.any()
    assert computed(cut) == computed(windows) == 9


LOG = st.tuples(st.integers(0, 20), st.lists(st.integers(0, 1500), min_size=1, max_size=30))


@given(st.lists(LOG, min_size=1, max_size=4), st.booleans())
def test_each_window_keeps_its_end_and_more_than_half_and_in_order_nothing_more_is_computed(
    events: list[tuple[int, list[int]]], in_order: bool
) -> None:
    if in_order:
        events = [(before, sorted(times)) for before, times in events]
    windows, logs = group(events)
    cut, which = coalesced(windows, logs.start, logs.place)
    assert (cut.index == windows.index).all()
    assert (cut.length <= windows.length).all()
    assert (cut.length[which] > SIZE // 2).all()
    newest = dict(zip(logs.start.tolist(), logs.place.tolist(), strict=True))
    is_newest = np.array([newest[s] for s in logs.start.tolist()]) == logs.place
    assert not which[is_newest].any()
    if in_order:
        assert computed(cut) <= computed(windows)
