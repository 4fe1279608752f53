"""Rows as read -> events of the contract, with a bit for each check that hits (expressions only).

Staged columns: `n` (place among all rows of all files, from 0), the contract's fields, the truth
where there is one, `hits` (bits of `checks.BIT`), `was` (what could not be kept, as it stood), and
`user`, `id`, `content`: hashes for what is looked at user by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from models.prepare.checks import BIT
from models.prepare.config import LABELS
from models.prepare.json_lines import FLAT, NO_ATTRIBUTES
from stream_app.core.event import MAX_TIME_MS
from stream_app.core.layout import KNOWN, MILLISECONDS_FROM, TEXTS, Layout

MOST_CHARS: Final = {  # of the contract, in characters
    "user_id": 256, "type": 64, "event_id": 128, "item_id": 256, "category_id": 256,
    "session_id": 256, "query": 512,
}  # fmt: skip
EVENT: Final = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "type": pl.String(),
    "event_time": pl.Int64(),
    "item_id": pl.String(),
    "category_id": pl.String(),
    "session_id": pl.String(),
    "query": pl.String(),
    "position": pl.Int64(),
    "price": pl.Float64(),
    "quantity": pl.Int64(),
    "attributes": pl.String(),
}
TRUTH: Final = {
    "label": pl.Int8(), **dict.fromkeys(LABELS[1:], pl.String())
}  # fmt: skip
_LEAST: Final = {"position": 0, "quantity": 1}
_MOST_WHOLE: Final = 1 << 53  # what a float holds exactly


def staged(
    rows: pl.LazyFrame, layout: Layout, types: Sequence[str], first: int, prefix: str, in_ms: bool
) -> pl.LazyFrame:
    """Rows of one file, the first of which has the place `first`.

    `types` are those of the schema; `prefix` begins the ids of events that have none; `in_ms`:
    plain numbers are times in ms, as the contract has it, however small.
    """
    raw = rows.collect_schema()
    has = [f for f in raw if f not in ("number", "broken")]
    told = {f: _told(f, raw[f]) for f in has}
    none = pl.lit(None, pl.String)
    text = {f: told.get(f, none) for f in ("user_id", *TEXTS, *LABELS[1:])}
    kind = told.get("type", pl.lit(layout.only_type, pl.String))
    if layout.types:
        kind = kind.replace(dict(layout.types))
    at_ms = _time_ms(raw["event_time"], in_ms) if "event_time" in has else pl.lit(None, pl.Int64)
    number = {f: pl.col(f).cast(pl.Float64, strict=False) for f in KNOWN[-3:] if f in has}
    good = {f: _good(f, value) for f, value in number.items()}
    label = pl.col("label").cast(pl.Float64, strict=False) if "label" in has else None
    attributes = _attributes(raw)
    odd = attributes == NO_ATTRIBUTES
    broken = pl.col("broken").is_not_null()
    here = {f: told[f].is_not_null() for f in has}
    missing = pl.lit(False)
    checks = {
        "no-user": text["user_id"].is_null(),
        "no-type": kind.is_null(),
        "unknown-type": kind.is_not_null() & ~kind.is_in(list(types)),
        "no-time": ~here.get("event_time", missing),
        "bad-time": here.get("event_time", missing) & ~_possible(at_ms),
        "too-long": pl.any_horizontal(
            value.str.len_chars().fill_null(0) > MOST_CHARS[f]
            for f, value in {**{f: text[f] for f in ("user_id", *TEXTS)}, "type": kind}.items()
        ),
        **{f"bad-{f}": here[f] & ~good[f] for f in number},
        "bad-attributes": odd.fill_null(False),
        "bad-label": here["label"] & ~label.is_in([0.0, 1.0]).fill_null(False)
        if label is not None
        else missing,
    }
    bits = pl.sum_horizontal(
        hit.cast(pl.UInt32) * BIT[name] for name, hit in checks.items()
    )  # fmt: skip
    place = pl.col("number") - 1 + first
    known = pl.col("event_id").is_not_null()
    events = rows.select(
        place.alias("n"),
        text["event_id"].alias("event_id"),
        text["user_id"].alias("user_id"),
        kind.alias("type"),
        pl.when(_possible(at_ms)).then(at_ms).alias("event_time"),
        *(text[f].alias(f) for f in TEXTS if f != "event_id"),
        *(
            pl.when(good[f]).then(number[f]).cast(EVENT[f]).alias(f)
            if f in number
            else pl.lit(None, EVENT[f]).alias(f)
            for f in ("position", "price", "quantity")
        ),
        pl.when(~odd).then(attributes).alias("attributes"),
        (label if label is not None else pl.lit(None, pl.Float64)).alias("label"),
        *(text[f].alias(f) for f in LABELS[1:]),
        pl.when(broken).then(BIT["unreadable"]).otherwise(bits).cast(pl.UInt32).alias("hits"),
        _was(checks, has).alias("was"),
    )
    content = [f for f in EVENT if f != "event_id"]
    return events.with_columns(
        pl.when(pl.col("label").is_in([0.0, 1.0])).then("label").cast(pl.Int8).alias("label"),
        pl.col("user_id").hash(1).alias("user"),
        pl.when(known).then(pl.col("event_id").hash(2)).alias("id"),
        pl.struct(content).hash(3).alias("content"),
        pl.coalesce("event_id", pl.format("{}-{}", pl.lit(prefix), pl.col("n") - first + 1)),
    )


def _told(field: str, kind: pl.DataType) -> pl.Expr:
    """As text, null where nothing is told."""
    text = pl.col(field).cast(pl.String) if kind != pl.String else pl.col(field)
    return pl.when(text != "").then(text)


def _possible(at_ms: pl.Expr) -> pl.Expr:
    return at_ms.is_between(0, MAX_TIME_MS).fill_null(False)


def _good(field: str, value: pl.Expr) -> pl.Expr:
    if field == "price":
        fine = value.is_finite() & (value >= 0)
    else:
        fine = value.is_between(_LEAST[field], _MOST_WHOLE) & (value == value.floor())
    return fine.fill_null(False)


def _time_ms(kind: pl.DataType, in_ms: bool) -> pl.Expr:
    """Epoch ms of numbers, dates and texts (a time without a zone is UTC); null: no time."""
    at = pl.col("event_time")
    if isinstance(kind, pl.Datetime | pl.Date):
        return (
            at.cast(pl.Datetime("ms")).dt.timestamp("ms")
            if kind == pl.Date
            else (at.dt.timestamp("ms"))
        )
    number = at.cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    if not in_ms:
        number = pl.when(number.abs() >= MILLISECONDS_FROM).then(number).otherwise(number * 1000)
    # A float beyond an int64 is no time; the cast makes it null.
    counted = number.round().cast(pl.Int64, strict=False)
    if kind != pl.String:
        return counted
    text = at.str.strip_chars().str.replace(r" ?(UTC|[zZ])$", "+00:00").str.replace(" ", "T")
    text = pl.when(text.str.len_chars() == 10).then(text + "T00:00:00").otherwise(text)
    zoned = text.str.contains(r"T.*[+-]\d\d:?\d\d$")
    text = pl.when(zoned).then(text).otherwise(text + "+00:00")
    written = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return pl.coalesce(counted, written.dt.timestamp("ms"))


def _attributes(raw: pl.Schema) -> pl.Expr:
    """Text of a flat JSON object; `[]` if it is anything else."""
    parts = {f: f.removeprefix("attributes.") for f in raw if f.startswith("attributes.")}
    if parts:
        texts = [_attribute(f, raw[f]).alias(name) for f, name in parts.items()]
        some = pl.any_horizontal(text.is_not_null() for text in texts)
        return pl.when(some).then(pl.struct(texts).struct.json_encode())
    if "attributes" not in raw:
        return pl.lit(None, pl.String)
    text = _told("attributes", raw["attributes"])
    flat = text.is_null() | text.str.contains(f"^{FLAT}$") | (text == NO_ATTRIBUTES)
    return pl.when(flat).then(text).otherwise(pl.lit(NO_ATTRIBUTES))


def _attribute(field: str, kind: pl.DataType) -> pl.Expr:
    return pl.col(field).cast(pl.Float64) if kind.is_numeric() else _told(field, kind)


def _was(checks: Mapping[str, pl.Expr], has: Sequence[str]) -> pl.Expr:
    """Values that no event may have, as they stood: `price=-1`."""
    told = [
        pl.when(checks[f"bad-{short}"]).then(pl.format(f"{field}={{}}", pl.col(field)))
        for short, field in (
            ("time", "event_time"), ("price", "price"), ("position", "position"),
            ("quantity", "quantity"), ("label", "label"), ("attributes", "attributes"),
        )
        if field in has and f"bad-{short}" in checks
    ]  # fmt: skip
    said = pl.concat_str(told, separator=", ", ignore_nulls=True)
    return pl.coalesce("broken", pl.when(said != "").then(said))
