"""What the parts hold: values and how often, amounts, classes. Counted by polars, streaming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from msgspec import Struct

from models.prepare.parts import Part

EDGES: Final = tuple(round(at / 16, 4) for at in range(17))
FIGURES: Final = 4  # of an amount
TOP: Final = 5
CATEGORIES: Final = ("type", "item_id", "category_id")
AMOUNTS: Final = ("price", "position", "quantity")


class Vocabulary(Struct, frozen=True):
    """The values of a field in train, and what later parts have that train has not."""

    field: str
    values: int
    once: int  # values that occur once
    median: int  # events of a value
    most: int
    in_top_1_percent: float  # share of events that have one of the most frequent 1 % of values
    top: dict[str, int]
    unseen: dict[str, float]  # part -> share of its events whose value train does not have


class Bins(Struct, frozen=True):
    """Edges of 16 bins that hold equally many events each, from the least to the largest value."""

    field: str
    known: int  # events with a value
    edges: tuple[float, ...]


class PartFacts(Struct, frozen=True):
    events: int
    users: int
    first_ms: int | None
    last_ms: int | None
    missing: dict[str, int]  # field -> events without it
    flagged: dict[str, int]
    labelled: int
    anomalous: int
    attacks: dict[str, int]


def facts_of(folder: Path, part: Part, labelled: bool) -> PartFacts:
    events = pl.scan_parquet(folder / part.file)
    fields = [f for f in events.collect_schema() if f not in ("flags", "event_id")]
    told = events.select(
        pl.len().alias("events"),
        pl.col("user_id").hash(1).n_unique().alias("users"),
        pl.col("event_time").min().alias("first_ms"),
        pl.col("event_time").max().alias("last_ms"),
        *(pl.col(f).null_count().alias(f"no {f}") for f in fields),
    ).collect(engine="streaming")
    row = told.row(0, named=True)
    flags = _counts(events.select(pl.col("flags").str.split(",").explode()), "flags")
    positives, attacks, known = 0, {}, 0
    if labelled:
        labels = pl.scan_parquet(folder / part.labels)
        by_label = _counts(labels, "label")
        known, positives = sum(by_label.values()), by_label.get("1", 0)
        attacks = _counts(labels.filter(pl.col("label") == 1), "attack")
    return PartFacts(
        row["events"], row["users"], row["first_ms"], row["last_ms"],
        {f: row[f"no {f}"] for f in fields if row[f"no {f}"]},
        flags, known, positives, attacks,
    )  # fmt: skip


def _counts(frame: pl.LazyFrame, column: str) -> dict[str, int]:
    """Value -> rows, most first."""
    counted = frame.group_by(column).len().collect(engine="streaming").drop_nulls()
    ordered = counted.sort(["len", column], descending=[True, False])
    return {str(value): count for value, count in ordered.iter_rows()}


def vocabularies(folder: Path, fields: Sequence[str]) -> list[Vocabulary]:
    """Of train; also writes `vocabulary.parquet`: field, value, events."""
    found: list[Vocabulary] = []
    tables: list[pl.DataFrame] = []
    for field in fields:
        counted = (
            pl.scan_parquet(folder / Part.TRAIN.file)
            .filter(pl.col(field).is_not_null())
            .group_by(pl.col(field).alias("value"))
            .agg(pl.len().cast(pl.UInt64).alias("events"))
            .collect(engine="streaming")
            .sort(["events", "value"], descending=[True, False])
        )
        if counted.is_empty():
            continue
        tables.append(counted.select(pl.lit(field).alias("field"), "value", "events"))
        found.append(_vocabulary(folder, field, counted))
    schema = {"field": pl.String, "value": pl.String, "events": pl.UInt64}
    table = pl.concat(tables) if tables else pl.DataFrame(schema=schema)
    table.write_parquet(folder / "vocabulary.parquet")
    return found


def _vocabulary(folder: Path, field: str, counted: pl.DataFrame) -> Vocabulary:
    events = counted["events"]
    total = int(events.sum())
    few = max(len(counted) // 100, 1)
    return Vocabulary(
        field,
        len(counted),
        int((events == 1).sum()),
        int(events[len(events) // 2]),
        int(events[0]),
        round(int(events[:few].sum()) / total, 4),
        dict(counted.head(TOP).iter_rows()),
        {
            part.name.lower(): _unseen(folder, part, field, counted)
            for part in (Part.VALID, Part.TEST)
        },
    )


def _unseen(folder: Path, part: Part, field: str, counted: pl.DataFrame) -> float:
    own = pl.scan_parquet(folder / part.file).filter(pl.col(field).is_not_null())
    new = own.join(counted.lazy(), left_on=field, right_on="value", how="anti")
    many, all_ = pl.collect_all([new.select(pl.len()), own.select(pl.len())], engine="streaming")
    return round(many.item() / all_.item(), 4) if all_.item() else 0.0


def bins(folder: Path) -> list[Bins]:
    """Of train. Amounts are taken to four figures, so that the counting stays small."""
    train = pl.scan_parquet(folder / Part.TRAIN.file)
    found = []
    for field in AMOUNTS:
        counted = (
            train.filter(pl.col(field).is_not_null())
            .group_by(pl.col(field).cast(pl.Float64).round_sig_figs(FIGURES).alias("value"))
            .len("count")
            .collect(engine="streaming")
            .sort("value")
        )
        if len(counted):
            found.append(Bins(field, int(counted["count"].sum()), edges(counted)))
    return found


def edges(counted: pl.DataFrame) -> tuple[float, ...]:
    """`counted`: value (ascending), count."""
    below = counted["count"].cum_sum() / counted["count"].sum()
    places = (min(int(below.search_sorted(share)), len(counted) - 1) for share in EDGES)
    return tuple(float(counted["value"][place]) for place in places)
