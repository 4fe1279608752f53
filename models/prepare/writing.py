"""Parquet files that grow piece by piece."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet

from models.prepare.cleaning import EVENT, TRUTH
from models.prepare.parts import Part

EVENTS: Final = {**EVENT, "flags": pl.String()}
LABELLED: Final = {"event_id": pl.String(), **TRUTH}


class GrowingFile:
    """One Parquet file; made at once, so that it is there if it stays empty."""

    def __init__(self, path: Path, kinds: dict[str, Any]) -> None:
        self._kinds = kinds
        schema = pl.DataFrame(schema=kinds).to_arrow().schema
        self._writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        if len(frame):
            table: pa.Table = frame.select(list(self._kinds)).to_arrow()
            self._writer.write_table(table)
            self.rows += len(frame)

    def close(self) -> None:
        self._writer.close()


class Parts:
    """The files of all parts, and of labels if there are some."""

    def __init__(self, folder: Path, labelled: bool) -> None:
        self.events = {part: GrowingFile(folder / part.file, EVENTS) for part in Part}
        self.labels = {
            part: GrowingFile(folder / part.labels, LABELLED) for part in Part if labelled
        }

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (*self.events.values(), *self.labels.values()):
            file.close()

    def add(self, frame: pl.DataFrame) -> None:
        """`frame` is in order, with a column `part` beside those of events and labels."""
        for part in Part:
            own = frame.filter(pl.col("part") == int(part))
            self.events[part].add(own)
            if part in self.labels:
                self.labels[part].add(own.filter(pl.col("label").is_not_null()))
