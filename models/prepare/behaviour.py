"""Checks that need all events of a user: repeats, bursts, timers, hardly any events.

Rows come in by user, a part of the users at a time, so that memory does not grow with the files.
A check looks at what the earlier ones left: a repeated event makes no burst if it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from models.prepare.checks import BIT, Actions

PAUSE_FIGURES: Final = 3
SECOND_MS: Final = 1000
EQUAL_MS: Final = 2  # pauses that differ by less, or by a hundredth, are equal
EQUAL_SHARE: Final = 0.01


class Pace(Struct, frozen=True):
    """What a user must not do."""

    burst: int  # events within a second
    regular: int  # equal pauses in a row
    min_events: int


class Found(Struct, frozen=True):
    """What the users of one part did."""

    n: NDArray[np.uint64]  # places of all their rows
    hits: NDArray[np.uint32]
    user: NDArray[np.uint64]  # a hash; one of each user
    user_ids: list[str]
    of_row: NDArray[np.uint32]  # which of the users a row is of
    kept_ms: NDArray[np.int64]  # times of the rows that are still kept
    pauses: pl.DataFrame  # value (ms, three figures), count: between a user's kept events


def look(rows: pl.DataFrame, pace: Pace, chosen: Actions) -> Found:
    """`rows`: n, user, user_id, event_time, id, content of every row that is not dropped yet."""
    frame = rows.sort("user", "n").with_columns(pl.lit(0, pl.UInt32).alias("hits"))
    checks: dict[str, Callable[[pl.DataFrame], pl.Series]] = {
        "repeated-id": _repeated_id,
        "repeated-row": _repeated_row,
        "same-second": lambda f: _same_second(f, pace.burst),
        "regular-pace": lambda f: _regular(f, pace.regular),
        "few-events": lambda f: f.select(pl.len().over("user") < pace.min_events).to_series(),
    }
    gone: list[pl.DataFrame] = []
    for name, hit in checks.items():
        bit = pl.Series(hit(frame)).cast(pl.UInt32) * BIT[name]
        frame = frame.with_columns((pl.col("hits") | bit).alias("hits"))
        if name in chosen.dropping:
            dropped = (pl.col("hits") & BIT[name]) != 0
            gone.append(frame.filter(dropped))
            frame = frame.filter(~dropped)
    every = pl.concat([frame, *gone])
    users = every.group_by("user").agg(pl.col("user_id").first()).sort("user")
    of_row = users["user"].search_sorted(every["user"])
    return Found(
        every["n"].to_numpy(),
        every["hits"].to_numpy(),
        users["user"].to_numpy(),
        users["user_id"].to_list(),
        of_row.to_numpy(),
        frame["event_time"].to_numpy(),
        _pauses(frame),
    )


def _pauses(frame: pl.DataFrame) -> pl.DataFrame:
    timed = frame.select("user", "event_time").sort("user", "event_time")
    pause = pl.col("event_time").diff().over("user")
    rounded = pause.drop_nulls().cast(pl.Float64).round_sig_figs(PAUSE_FIGURES)
    return timed.select(rounded.alias("value")).group_by("value").len("count").sort("value")


def _repeated_id(frame: pl.DataFrame) -> pl.Series:
    """An id that its user had before; events without an id of their own repeat none."""
    first = pl.struct("user", "id").is_first_distinct()
    return frame.select(pl.col("id").is_not_null() & ~first).to_series()


def _repeated_row(frame: pl.DataFrame) -> pl.Series:
    return ~frame.select(pl.struct("user", "content").is_first_distinct()).to_series()


def _same_second(frame: pl.DataFrame, most: int) -> pl.Series:
    second = pl.col("event_time") // SECOND_MS
    return frame.select(pl.len().over("user", second) >= most).to_series()


def _regular(frame: pl.DataFrame, run: int) -> pl.Series:
    """Events in a run of at least `run` equal pauses, by event time."""
    timed = frame.select("user", "event_time").with_row_index("at").sort("user", "event_time", "at")
    pause = pl.col("event_time").diff().over("user")
    before = pl.col("pause").shift(1).over("user")
    near = pl.max_horizontal(pl.lit(EQUAL_MS), pl.col("pause") * EQUAL_SHARE)
    alike = (pl.col("pause") > 0) & ((pl.col("pause") - before).abs() < near)
    told = timed.with_columns(pause.alias("pause")).with_columns(alike.fill_null(False).alias("as"))
    # A run: an event whose pause is not as the one before it begins the next.
    runs = told.with_columns((~pl.col("as")).cum_sum().alias("run"))
    runs = runs.with_columns((pl.col("as").sum().over("run") >= run - 1).alias("long"))
    # The two events that the first pause lies between are in the run too; the second begins it.
    long = runs.select(
        "at",
        (
            pl.col("long")
            | (pl.col("long").shift(-1).over("user") & (pl.col("run").diff(-1) != 0)).fill_null(
                False
            )
        ).alias("hit"),
    )
    return long.sort("at")["hit"]
