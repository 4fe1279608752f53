"""Which event goes into which part: by time, by user, and never a campaign into two.

train | valid | test     by event time: before the first cut, before the second, after it
history                  what lies before its user's part: of held-out users, which belong to
                         test, and of those in a campaign that goes on into a later part.
                         It fills windows; nobody trains on it, nobody is judged by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import lot
from stream_app.core.event import MAX_TIME_MS

Counts = NDArray[np.int64]
_BINS: Final = 1 << 20
HOUR_MS: Final = 3_600_000
FAR: Final = 10  # times the middle half of all times
FLOOR_MS: Final = 946_684_800_000  # the year 2000: no shop's log is older


class Part(IntEnum):
    TRAIN = 0
    VALID = 1
    TEST = 2
    HISTORY = 3

    @property
    def file(self) -> str:
        return f"{self.name.lower()}.parquet"

    @property
    def labels(self) -> str:
        return f"{self.name.lower()}-labels.parquet"


class Span(Struct, frozen=True):
    """Times from `first_ms` up to and with `last_ms`."""

    first_ms: int
    last_ms: int


class TimeLine:
    """How many events happened when, in at most a million steps; grows with nothing else."""

    def __init__(self, span: Span) -> None:
        self._first = span.first_ms
        self.step_ms = max(1, -(-(span.last_ms - span.first_ms + 1) // _BINS))
        self.counts: Counts = np.zeros((span.last_ms - self._first) // self.step_ms + 1, np.int64)

    def add(self, times_ms: NDArray[np.int64]) -> None:
        steps = (times_ms - self._first) // self.step_ms
        last = len(self.counts) - 1
        self.counts += np.bincount(np.clip(steps, 0, last), minlength=last + 1)

    def cut(self, share: float) -> int:
        """The time (epoch ms) before which about this share of the events happened."""
        if share >= 1:
            return MAX_TIME_MS + 1
        below = np.concatenate(([0], np.cumsum(self.counts)))
        step = int(np.searchsorted(below, share * below[-1]))
        return self._first + step * self.step_ms

    def stretches(self, most: int) -> list[Span]:
        """Times with at most `most` events each, if no single step has more; all times in all."""
        ends, held = [], 0
        for step in np.flatnonzero(self.counts).tolist():
            if held and held + int(self.counts[step]) > most:
                ends.append(self._first + step * self.step_ms)
                held = 0
            held += int(self.counts[step])
        edges = [0, *ends, MAX_TIME_MS + 1]
        return [Span(a, b - 1) for a, b in itertools.pairwise(edges)]


def usual(hours: pl.DataFrame, earliest_ms: int | None, latest_ms: int | None) -> Span:
    """The times that are not `far-time`; `hours`: hour, count.

    Found from the times themselves, never from today's date, so that a run can be repeated: within
    ten times the middle half of all times. Zero and the years after it are far, unless most events
    lie there: then the log counts from its own start.
    """
    if hours.is_empty():
        return Span(0, MAX_TIME_MS)
    sorted_ = hours.sort("hour")
    below = sorted_["count"].cum_sum().to_numpy() / sorted_["count"].sum()
    low, middle, high = (
        int(sorted_["hour"][int(np.searchsorted(below, q))]) * HOUR_MS for q in (0.25, 0.5, 0.75)
    )
    reach = FAR * (high - low) + 24 * HOUR_MS
    floor = FLOOR_MS if middle >= FLOOR_MS else 0
    first = earliest_ms if earliest_ms is not None else max(low - reach, floor)
    last = latest_ms if latest_ms is not None else min(high + HOUR_MS + reach, MAX_TIME_MS)
    return Span(first, last)


def held_out(user_ids: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    return np.array([lot(user, seed) < share for user in user_ids], np.bool_)


def going_on(campaigns: pl.DataFrame, cuts: tuple[int, int]) -> dict[int, int]:
    """User (hash) -> the last part of a campaign of theirs that would lie in two.

    `campaigns`: user, campaign, event_time of the events of campaigns.
    """
    spans = campaigns.group_by("campaign").agg(
        _by_time(cuts, pl.col("event_time").min()).alias("first"),
        _by_time(cuts, pl.col("event_time").max()).alias("last"),
    )
    both = campaigns.join(spans.filter(pl.col("first") < pl.col("last")), on="campaign")
    told = both.group_by("user").agg(pl.col("last").max())
    return dict(zip(told["user"].to_list(), told["last"].to_list(), strict=True))


def part_of(cuts: tuple[int, int], users: dict[int, int], held: pl.Expr) -> pl.Expr:
    """The part (UInt8) of each event; `users` as `going_on` tells."""
    own = _by_time(cuts, pl.col("event_time"))
    least = pl.lit(0, pl.UInt8)
    if users:
        least = pl.col("user").replace_strict(users, default=0, return_dtype=pl.UInt8)
    least = pl.when(held).then(pl.lit(int(Part.TEST), pl.UInt8)).otherwise(least)
    return pl.when(own < least).then(pl.lit(int(Part.HISTORY), pl.UInt8)).otherwise(own)


def _by_time(cuts: tuple[int, int], at_ms: pl.Expr) -> pl.Expr:
    return (at_ms >= cuts[0]).cast(pl.UInt8) + (at_ms >= cuts[1]).cast(pl.UInt8)
