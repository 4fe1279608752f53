"""Parts by time, user and campaign; times that count as usual."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prepare.parts import (
    FLOOR_MS,
    HOUR_MS,
    Part,
    Span,
    TimeLine,
    going_on,
    held_out,
    part_of,
    usual,
)
from stream_app.core.event import MAX_TIME_MS

TIMES = st.lists(st.integers(0, 10_000), min_size=1, max_size=60)


@given(TIMES, st.floats(0, 0.99))
def test_a_cut_leaves_the_share_before_it(times: list[int], share: float) -> None:
    line = TimeLine(Span(0, 10_000))
    line.add(np.array(times))
    cut = line.cut(share)
    assert np.mean([t < cut for t in times]) >= share - 1e-9
    assert sum(t < cut - 1 for t in times) <= share * len(times)  # the step before is too early


@given(TIMES, st.integers(1, 20))
def test_stretches_part_all_times_and_hold_few_events(times: list[int], most: int) -> None:
    line = TimeLine(Span(0, 10_000))
    line.add(np.array(times))
    spans = line.stretches(most)
    inside = [sum(s.first_ms <= t <= s.last_ms for t in times) for s in spans]
    assert sum(inside) == len(times)
    assert (spans[0].first_ms, spans[-1].last_ms) == (0, MAX_TIME_MS)
    at_once = max(times.count(t) for t in times)
    assert max(inside) <= max(most, at_once)


def test_a_long_time_is_counted_in_steps_of_bounded_number() -> None:
    line = TimeLine(Span(0, 1 << 40))
    line.add(np.array([0, 1 << 39, 1 << 40, (1 << 40) + 5]))  # the last lies outside
    assert len(line.counts) <= 1 << 20
    assert line.counts.sum() == 4


def hours(*times_ms: int) -> pl.DataFrame:
    counted = pl.Series("hour", [t // HOUR_MS for t in times_ms]).value_counts()
    return counted.select("hour", pl.col("count").cast(pl.Int64))


def test_broken_clocks_are_far_a_slow_start_is_not() -> None:
    now = FLOOR_MS * 2
    week = [now + n * HOUR_MS for n in range(168)]
    span = usual(hours(*week, 0, MAX_TIME_MS), None, None)
    assert span.first_ms < week[0] - 7 * 24 * HOUR_MS
    assert span.first_ms > FLOOR_MS
    assert week[-1] + 7 * 24 * HOUR_MS < span.last_ms < MAX_TIME_MS
    given = usual(hours(*week), 5, 6)
    assert (given.first_ms, given.last_ms) == (5, 6)


def test_a_log_that_counts_from_its_own_start_begins_at_zero() -> None:
    assert usual(hours(*range(0, 168 * HOUR_MS, HOUR_MS)), None, None).first_ms == 0
    mostly_broken = usual(hours(*[0] * 20, *[FLOOR_MS * 2] * 80), None, None)
    assert mostly_broken.first_ms > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_users_are_held_out_and_about_the_share(seed: int) -> None:
    users = [f"user-{n}" for n in range(5000)]
    held = held_out(users, 0.2, seed)
    assert abs(held.mean() - 0.2) < 0.02
    assert (held_out(users[::-1], 0.2, seed)[::-1] == held).all()
    more = held_out(users, 0.3, seed)
    assert more[held].all()
    assert (held_out(users, 0.2, seed + 1) != held).any()
    assert not held_out(users, 0.0, seed).any()


def test_a_campaign_across_a_cut_draws_its_users_to_the_later_part() -> None:
    campaigns = pl.DataFrame(
        [(1, "a", 5), (2, "a", 15), (3, "b", 5), (1, "c", 25), (4, "d", 12), (4, "d", 28)],
        schema=["user", "campaign", "event_time"],
        orient="row",
    )
    assert going_on(campaigns, (10, 20)) == {1: Part.VALID, 2: Part.VALID, 4: Part.TEST}


def test_what_lies_before_its_users_part_is_history() -> None:
    events = pl.DataFrame({"user": [1, 1, 2, 2, 2, 3, 3], "event_time": [9, 10, 5, 15, 20, 19, 30]})
    part = part_of((10, 20), {1: 1}, pl.col("user") == 2)
    found = [Part(at).name for at in events.select(part).to_series()]
    assert found == ["HISTORY", "VALID", "HISTORY", "HISTORY", "TEST", "VALID", "TEST"]
