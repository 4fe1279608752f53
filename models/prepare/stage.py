"""The rows of all files in one form on disk, to be gone through piece by piece.

Beside the staged Parquet files lies one number for each row: the bits of the checks that hit it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from models.prepare import cleaning, reading
from models.prepare.checks import BIT
from models.prepare.config import LABELS, PrepareConfig
from models.prepare.parts import HOUR_MS, Span
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import LAYOUTS, Format

ROWS: Final = 2_000_000  # held in memory at once
ABSENT: Final = np.uint32(1 << 30)  # a blank line: no row
HELD: Final = np.uint32(1 << 31)  # of a held-out user
_TIMES: Final = BIT["no-time"] | BIT["bad-time"] | BIT["unreadable"]

Progress = Callable[[str, float], None]  # what is done now, and how much of it (0 to 1)


class Stage:
    """Rows are known by their place `n` among the rows of all files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.counts: list[int] = []  # rows of each file
        self.total = 0  # places, blank lines too
        self.hits: NDArray[np.uint32] = np.empty(0, np.uint32)

    @property
    def rows(self) -> pl.LazyFrame:
        return pl.scan_parquet(self._folder / "*.parquet", glob=True)

    def add(
        self,
        path: Path,
        config: PrepareConfig,
        types: tuple[str, ...],
        prefix: str,
        labels: pl.DataFrame | None,
        progress: Progress,
    ) -> None:
        """Read a file. Raises Misconfigured."""
        form = config.format_of(path)
        columns = None
        if form is not Format.JSONL:
            own = LAYOUTS[form].columns if form in LAYOUTS else None
            columns = tuple(reading.columns_of(path, form, tuple(own) if own else None))
        layout = config.layout_of(path, columns)
        step = f"reading {path.name}"
        rows = reading.rows(path, form, layout, lambda share: progress(step, share))
        events = cleaning.staged(rows, layout, types, self.total, prefix, form is Format.JSONL)
        if labels is not None:
            order = events.collect_schema().names()
            events = events.drop(LABELS).join(
                labels.lazy(), on="event_id", how="left", maintain_order="left"
            )
            events = events.select(order)
        target = self._folder / f"{len(self.counts):05}.parquet"
        try:
            events.sink_parquet(target, compression="lz4", engine="streaming")
        except (pa.ArrowException, pl.exceptions.PolarsError) as error:
            told = str(error).splitlines()[0]
            raise Misconfigured(f"{path} cannot be read as {form}: {told}") from error
        told_ = pl.scan_parquet(target).select(pl.len().alias("rows"), pl.col("n").max())
        count, last = told_.collect().row(0)
        self.counts.append(count)
        self.total = last + 1 if count else self.total

    def hours(self) -> pl.DataFrame:
        """Hour of all readable times, and how many events are in it."""
        return (
            self.rows.filter(pl.col("event_time").is_not_null(), pl.col("hits") & _TIMES == 0)
            .group_by((pl.col("event_time") // HOUR_MS).alias("hour"))
            .len("count")
            .collect(engine="streaming")
        )

    def mark(self, span: Span, progress: Progress) -> None:
        """Fill `hits` by the checks of single rows; times outside `span` are far."""
        # On disk: the number of rows must not be bounded by memory.
        self.hits = np.memmap(
            self._folder / "hits.bin", np.uint32, mode="w+", shape=(max(self.total, 1),)
        )
        self.hits[:] = ABSENT
        inside = pl.col("event_time").is_between(span.first_ms, span.last_ms)
        far = pl.when(~inside).then(BIT["far-time"]).otherwise(0).cast(pl.UInt32)
        told = self.rows.select("n", (pl.col("hits") | far.fill_null(0)).alias("hits"))
        for first in range(0, self.total, ROWS):
            progress("checking rows", first / self.total)
            piece = _between(told, first, ROWS).collect(engine="streaming")
            self.hits[piece["n"].to_numpy()] = piece["hits"].to_numpy()

    def by_user(self, columns: list[str], dropping: int) -> Iterator[tuple[float, pl.DataFrame]]:
        """(share done, rows not dropped so far), all of a user's in one piece."""
        pieces = max(1, -(-self.total // ROWS))
        for piece in range(pieces):
            mine = self.rows.filter(
                pl.col("user") % pieces == piece, pl.col("hits") & dropping == 0
            )
            frame = mine.select(columns).collect(engine="streaming")
            kept = (self.hits[frame["n"].to_numpy()] & dropping) == 0  # far times are only here
            yield piece / pieces, frame.filter(pl.Series(kept))

    def in_file_order(self, most: int) -> Iterator[tuple[float, pl.DataFrame]]:
        """(share done, rows with `hits`) as they lie in the files."""
        for first in range(0, self.total, most):
            yield first / self.total, self._known(_between(self.rows, first, most))

    def in_time_order(
        self, stretches: list[Span], dropping: int
    ) -> Iterator[tuple[float, pl.DataFrame]]:
        """(share done, rows not dropped, with `hits`) by event time; equal times as they lie."""
        for at, span in enumerate(stretches):
            inside = pl.col("event_time").is_between(span.first_ms, span.last_ms)
            own = self._known(self.rows.filter(inside, pl.col("hits") & dropping == 0))
            yield at / len(stretches), own.sort("event_time", "n")

    def _known(self, rows: pl.LazyFrame) -> pl.DataFrame:
        frame = rows.collect(engine="streaming")
        return frame.with_columns(pl.Series("hits", self.hits[frame["n"].to_numpy()]))

    def dropped(self, dropping: int) -> Iterator[pl.DataFrame]:
        """Rows that are not kept, with `hits`."""
        for first in range(0, self.total, ROWS):
            piece = np.asarray(self.hits[first : first + ROWS])
            places = first + np.flatnonzero(((piece & dropping) != 0) & ((piece & ABSENT) == 0))
            if len(places):
                own = pl.Series("n", places.astype(np.uint64))
                rows = _between(self.rows, first, ROWS)
                yield self._known(rows.filter(pl.col("n").is_in(own.implode())))

    def late_share(self, dropping: int, behind_ms: int) -> float:
        """Share of rows that are more than `behind_ms` older than an earlier row."""
        late = many = 0
        newest = -(1 << 62)
        columns = self.rows.select("n", "event_time", "hits")
        for first in range(0, self.total, ROWS):
            piece = self._known(_between(columns, first, ROWS))
            times = piece.filter(pl.col("hits") & dropping == 0)["event_time"].to_numpy()
            if len(times):
                high = np.maximum.accumulate(np.maximum(times, newest))
                late += int((times < high - behind_ms).sum())
                many += len(times)
                newest = int(high[-1])
        return late / many if many else 0.0

    def counted(self) -> dict[int, int]:
        """Bits of the checks -> rows that have just these."""
        found: dict[int, int] = {}
        for first in range(0, self.total, ROWS):
            piece = np.asarray(self.hits[first : first + ROWS])
            values, counts = np.unique(piece[(piece & ABSENT) == 0] & ~HELD, return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                found[value] = found.get(value, 0) + count
        return found


def _between(rows: pl.LazyFrame, first: int, most: int) -> pl.LazyFrame:
    return rows.filter(pl.col("n") >= first, pl.col("n") < first + most)
