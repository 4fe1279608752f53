"""Prepare: from files to parts and card. What it writes appears all at once, or not at all."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl

from models import schema as schemas
from models.dataset import read_labels
from models.prepare import card as cards
from models.prepare import statistics
from models.prepare.behaviour import Pace, look
from models.prepare.card import Card, Source
from models.prepare.checks import CHECKS, first_dropping, names_of
from models.prepare.cleaning import EVENT, TRUTH
from models.prepare.config import PrepareConfig
from models.prepare.parts import Part, TimeLine, going_on, held_out, part_of, usual
from models.prepare.stage import HELD, Progress, Stage
from models.prepare.writing import GrowingFile, Parts
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import LAYOUTS, Order

AT_ONCE: Final = 1_000_000  # rows written at once
BEHIND_MS: Final = 3_600_000
MOST_BEHIND: Final = 0.05  # a larger share of rows behind: the file is in no order of time
_BY_USER: Final = ["n", "user", "user_id", "event_time", "id", "content"]
DROPPED: Final = {"file": pl.String(), "row": pl.UInt64(), "dropped_for": pl.String(),
                  "was": pl.String(), **EVENT}  # fmt: skip


def prepare(config: PrepareConfig, progress: Progress = lambda step, share: None) -> Card:
    """Write `config.out`: a folder of Parquet files and a card. Returns the card.

    Raises Misconfigured: a file cannot be read, a column is missing, no event is left. On any
    error, and on Ctrl-C, what was there before is still there and nothing else.
    """
    config.check()
    partial = config.out.with_name(f".{config.out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
        card = _into(partial, config, progress)
        shutil.rmtree(partial / "stage")
        old = config.out.with_name(f".{config.out.name}.old")
        if config.out.exists():
            config.out.rename(old)
        partial.rename(config.out)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        try:
            _remove(partial)
        finally:  # where polars raised KeyboardInterrupt, Python does so once more
            _remove(partial)
        if isinstance(error, OSError):
            raise Misconfigured(f"{config.out} cannot be written: {error.strerror}") from error
        raise
    return card


def _remove(folder: Path) -> None:
    """After Ctrl-C polars' threads may still be writing, for a moment."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _into(folder: Path, config: PrepareConfig, progress: Progress) -> Card:
    schema, chosen = schemas.load(config.schema), config.actions
    labels = _labels(config.labels) if config.labels else None
    stage = Stage(folder / "stage")
    hashes = []
    for path in config.data:
        progress(f"hashing {path.name}", 0.0)
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
        stage.add(path, config, schema.type_names, hashes[-1][:10], labels, progress)
    span = usual(stage.hours(), config.earliest_ms, config.latest_ms)
    stage.mark(span, progress)

    times = TimeLine(span)
    pace = Pace(config.burst, config.regular, config.min_events)
    pauses: list[pl.DataFrame] = []
    held_users = 0
    for share, rows in stage.by_user(_BY_USER, chosen.mask):
        progress("checking users", share)
        found = look(rows, pace, chosen)
        held = held_out(found.user_ids, config.held_out, config.seed)
        stage.hits[found.n] |= found.hits | np.where(held[found.of_row], HELD, np.uint32(0))
        times.add(found.kept_ms)
        pauses.append(found.pauses)
        held_users += int(held.sum())
    if not times.counts.any():
        raise Misconfigured(_nothing_left(stage, config))

    cuts = (times.cut(1 - config.valid - config.test), times.cut(1 - config.test))
    going = going_on(_campaigns(stage, chosen.mask), cuts)
    order, late = _order(stage, config)
    parts = Parts(folder, _labelled(stage))
    with parts:
        part = part_of(cuts, going, pl.col("hits") & int(HELD) != 0).alias("part")
        pieces = (
            stage.in_time_order(times.stretches(AT_ONCE), chosen.mask)
            if order == Order.TIME
            else stage.in_file_order(AT_ONCE)
        )
        for share, rows in pieces:
            progress("writing", share)
            whole = rows.filter(pl.col("hits") & chosen.mask == 0)
            parts.add(whole.with_columns(part, _flags(whole["hits"])))
    _write_dropped(folder, stage, config)

    progress("counting", 0.0)
    labelled = bool(parts.labels)
    made = Card(
        schema=config.schema,
        sources=tuple(
            Source(path.name, path.stat().st_size, digest, str(config.format_of(path)), count)
            for path, digest, count in zip(config.data, hashes, stage.counts, strict=True)
        ),
        order=str(order),
        behind=round(late, 4),
        options=cards.options_of(config),
        usual_ms=(span.first_ms, span.last_ms),
        cuts_ms=cuts,
        held_out_users=held_users,
        campaign_users=len(going),
        report=cards.report(stage.counted(), chosen),
        parts={p.name.lower(): statistics.facts_of(folder, p, labelled) for p in Part},
        vocabularies=statistics.vocabularies(folder, statistics.CATEGORIES),
        bins=[*statistics.bins(folder), _pause_bins(pauses)],
    )
    (folder / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    (folder / "card.md").write_text(cards.markdown(made), "utf-8")
    return made


def _labels(paths: Sequence[Path]) -> pl.DataFrame:
    """event_id and the truth; of an id that comes twice, the last. Raises Misconfigured."""
    found = [
        (one.event_id, one.label, one.family, one.difficulty, one.campaign, one.look_alike)
        for one in read_labels(paths).values()
    ]
    schema = {"event_id": pl.String(), **TRUTH}
    return pl.DataFrame(found, schema=schema, orient="row")


def _labelled(stage: Stage) -> bool:
    return bool(stage.rows.select(pl.col("label").is_not_null().any()).collect().item())


def _campaigns(stage: Stage, dropping: int) -> pl.DataFrame:
    """Events of attacks and of look-alikes that belong to a campaign."""
    known = pl.col("campaign").is_not_null()
    odd = (pl.col("label") == 1) | pl.col("look_alike").is_not_null()
    columns = ["n", "user", "campaign", "event_time"]
    found = stage.rows.filter(known, odd).select(columns).collect(engine="streaming")
    kept = (stage.hits[found["n"].to_numpy()] & dropping) == 0
    return found.filter(pl.Series(kept))


def _order(stage: Stage, config: PrepareConfig) -> tuple[Order, float]:
    """How to order, and the share of rows that lay far behind."""
    late = stage.late_share(config.actions.mask, BEHIND_MS)
    if config.order != Order.AUTO:
        return config.order, late
    forms = {config.format_of(path) for path in config.data}
    unordered = any(form in LAYOUTS and not LAYOUTS[form].in_order for form in forms)
    return Order.TIME if unordered or late > MOST_BEHIND else Order.FILE, late


def _flags(hits: pl.Series) -> pl.Series:
    """Names of the checks that hit, with commas between; null: none."""
    bits = hits & int(~HELD & np.uint32(0xFFFFFFFF))
    words = {bit: names_of(bit) or None for bit in bits.unique().to_list()}
    return bits.replace_strict(words, return_dtype=pl.String).alias("flags")


def _write_dropped(folder: Path, stage: Stage, config: PrepareConfig) -> None:
    chosen = config.actions
    starts = np.cumsum([0, *stage.counts[:-1]])
    file = GrowingFile(folder / "dropped.parquet", DROPPED)
    try:
        for rows in stage.dropped(chosen.mask):
            reason = {h: first_dropping(h, chosen) for h in rows["hits"].unique().to_list()}
            reasons = rows["hits"].replace_strict(reason, return_dtype=pl.String)
            which = np.searchsorted(starts, rows["n"].to_numpy(), side="right") - 1
            file.add(
                rows.with_columns(
                    pl.Series("file", [config.data[at].name for at in which], pl.String),
                    pl.Series("row", rows["n"].to_numpy() - starts[which].astype(np.uint64) + 1),
                    reasons.alias("dropped_for"),
                )
            )
    finally:
        file.close()


def _pause_bins(found: list[pl.DataFrame]) -> statistics.Bins:
    every = pl.concat(found).group_by("value").agg(pl.col("count").sum()).sort("value")
    edges = statistics.edges(every) if len(every) else ()
    return statistics.Bins("pause_ms", int(every["count"].sum()), edges)


def _nothing_left(stage: Stage, config: PrepareConfig) -> str:
    report = cards.report(stage.counted(), config.actions)
    most = max(report.checks, key=lambda line: line.dropped, default=None)
    read = f"none of the {report.read:,} rows is left"
    if most is None or not most.dropped:
        return f"{read}: there is no row in the files"
    means = next(check.means for check in CHECKS if check.name == most.name)
    return f"{read}: {most.dropped:,} were dropped as {most.name} ({means})"
