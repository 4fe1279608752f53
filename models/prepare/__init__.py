"""Raw logs -> clean events in train, validation and test, and a card that says how.

    files -> reading -> cleaning -> a staged Parquet file -> behaviour (user by user) -> parts
          -> Parquet files by part, labels, what was dropped -> statistics -> card

Columns all the way, a bounded number of rows at a time: files may be larger than memory.
"""

from __future__ import annotations

from models.extra import missing

try:
    import polars as _polars  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests' environment has it
    raise missing("prepare", "polars") from error
