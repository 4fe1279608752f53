"""Files of events or labels as lines of JSON, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.core.errors import Misconfigured

PARQUET: Final = ".parquet"
ATTRIBUTES: Final = "attributes"  # in Parquet it may be a text of JSON, as `prepare` writes it
_ROWS: Final = 8192

Told = Callable[[float], None]


def _nobody(share: float) -> None:
    """Who watches if nobody does."""


def read(paths: Sequence[Path], told: Told = _nobody) -> Iterator[bytes]:
    """The lines of JSON files, and a line for each row of Parquet files, in their order.

    `told` hears now and then which share of a file is read. Raises Misconfigured if a file cannot
    be read.
    """
    for path in paths:
        for _, line in numbered(path, told):
            yield line


def numbered(path: Path, told: Told = _nobody) -> Iterator[tuple[int, bytes]]:
    """The lines of one file as `read` has them, each with its number in it, from 1."""
    try:
        yield from enumerate(_rows(path, told), 1) if path.suffix == PARQUET else _lines(path, told)
    except OSError as error:  # of pyarrow too
        why = error.strerror or str(error).splitlines()[0]
        raise Misconfigured(f"{path} cannot be read: {why}") from error


def _lines(path: Path, told: Told) -> Iterator[tuple[int, bytes]]:
    done, size = 0, max(path.stat().st_size, 1)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            done += len(line)
            if number % _ROWS == 0:
                told(done / size)
            if stripped := line.strip():
                yield number, stripped


def _rows(path: Path, told: Told) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet

    encode = msgspec.json.Encoder().encode
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names, done = file.schema_arrow.names, 0
            for batch in file.iter_batches(_ROWS):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield encode(_without_gaps(names, values))
                done += batch.num_rows
                told(done / file.metadata.num_rows)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Misconfigured(f"{path} is no Parquet file: {str(error).splitlines()[0]}") from error


def _without_gaps(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    row = {n: v for n, v in zip(names, values, strict=True) if v is not None}
    if isinstance(attributes := row.get(ATTRIBUTES), str):
        row[ATTRIBUTES] = msgspec.Raw(attributes.encode())
    return row
