"""Files -> a lazy frame of their rows: what the contract has a name for, as text or as it was.

Columns: `number` (of the row in its file, from 1), `broken` (the text of a row that could not be
read), and a column for each field that the file has. Blocks come one after the other from pyarrow:
unlike polars' own readers it hands over rows with too many columns, and bytes that are no UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from models.prepare.json_lines import decoded
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format, Layout

BLOCK_BYTES: Final = 8 << 20
_ROWS: Final = 1 << 16
_NO_TEXT: Final = "\x01"  # parts the columns of a line of JSON: JSON cannot hold it

Told = Callable[[float], None]  # share of the file that is read


def columns_of(path: Path, form: Format, layout_columns: tuple[str, ...] | None) -> list[str]:
    """Of a table. Raises Misconfigured."""
    try:
        if form is Format.PARQUET:
            return [str(n) for n in pyarrow.parquet.read_schema(path).names]
        if layout_columns:
            return list(layout_columns)
        with path.open("rb") as file:
            first = file.readline().rstrip(b"\r\n")
        if not first.strip():
            raise Misconfigured(f"{path} has no header")
        read = pyarrow.csv.read_csv(pa.BufferReader(first + b"\n"))
        return [str(name) for name in read.column_names]
    except (pa.ArrowException, OSError) as error:
        raise Misconfigured(f"{path} cannot be read as {form}: {error}") from error


def rows(path: Path, form: Format, layout: Layout, told: Told) -> pl.LazyFrame:
    """The rows of a file. Raises Misconfigured, on reading as well."""
    blocks: Callable[[Path, Layout, Told], Iterator[pl.DataFrame]]
    kinds: dict[str, Any] = dict.fromkeys(layout.fields, pl.String())
    if form is Format.JSONL:
        blocks = _json
        kinds["attributes"] = pl.String()
    elif form is Format.PARQUET:
        blocks = _parquet
        kinds = _parquet_kinds(path, layout)
    else:
        blocks = _csv
    schema = pl.Schema({"number": pl.UInt64(), "broken": pl.String(), **kinds})

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        del n_rows, batch_size  # the whole file, in our own blocks
        for block in blocks(path, layout, told):
            frame = block.select(list(schema)).cast(dict(schema))  # type: ignore[arg-type]
            frame = frame if predicate is None else frame.filter(predicate)
            yield frame if with_columns is None else frame.select(with_columns)

    return register_io_source(source, schema=schema)


def _parquet_kinds(path: Path, layout: Layout) -> dict[str, Any]:
    """Type of each field; what `_flat` makes a text is one."""
    found = pl.DataFrame(pyarrow.parquet.read_schema(path).empty_table()).schema
    kinds = {field: found[column] for field, column in layout.fields.items()}
    texts = (pl.Categorical, pl.Binary)
    return {f: pl.String() if k.is_nested() or k in texts else k for f, k in kinds.items()}


def _parquet(path: Path, layout: Layout, told: Told) -> Iterator[pl.DataFrame]:
    with pyarrow.parquet.ParquetFile(path) as file:
        total, done = file.metadata.num_rows, 0
        for batch in file.iter_batches(_ROWS, columns=sorted(set(layout.fields.values()))):
            frame = pl.DataFrame(pa.Table.from_batches([batch]))
            told(done / total)
            yield frame.select(
                pl.int_range(done + 1, done + len(frame) + 1, dtype=pl.UInt64).alias("number"),
                pl.lit(None, pl.String).alias("broken"),
                *(_flat(frame[column]).alias(field) for field, column in layout.fields.items()),
            )
            done += len(frame)


def _flat(values: pl.Series) -> pl.Series:
    """Texts as such; a struct or a map as JSON."""
    if isinstance(values.dtype, pl.Struct):
        return values.struct.json_encode()
    if isinstance(values.dtype, pl.List):  # how a map of Arrow arrives
        texts = (None if v is None else _json_of(v) for v in values.to_list())
        return pl.Series(values.name, texts, pl.String)
    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Binary) else values


def _json_of(value: list[Any]) -> str:
    """A map, which comes as a list of keys and values; any other list stays one."""
    pairs = all(isinstance(entry, dict) and set(entry) == {"key", "value"} for entry in value)
    told = {entry["key"]: entry["value"] for entry in value} if pairs else value
    return msgspec.json.encode(told).decode()


def _json(path: Path, layout: Layout, told: Told) -> Iterator[pl.DataFrame]:
    # A line is a table's row of one column; quotes mean nothing.
    parsing = pyarrow.csv.ParseOptions(
        delimiter=_NO_TEXT, quote_char=False, double_quote=False, escape_char=False
    )
    for numbers, lines, broken in _blocks(path, ["line"], ["line"], parsing, told):
        text = _text(lines["line"])
        some = (text.str.strip_chars() != "").fill_null(True)  # a blank line is no row
        text, numbers = text.filter(some), numbers.filter(some)
        frame = decoded(text, dict(layout.fields)).with_columns(numbers)
        bad = frame.select(
            pl.when(pl.col("broken")).then(pl.coalesce(text, pl.lit("(no UTF-8)")).alias("broken"))
        )
        yield _with(frame.with_columns(bad), broken)


def _csv(path: Path, layout: Layout, told: Told) -> Iterator[pl.DataFrame]:
    wanted = dict(layout.fields)
    names = list(layout.columns) if layout.columns else None
    every = columns_of(path, Format.CSV, tuple(names) if names else None)
    parsing = pyarrow.csv.ParseOptions()
    for numbers, cells, broken in _blocks(path, names, every, parsing, told):
        texts = pl.DataFrame([_text(column) for column in cells])
        frame = texts.select(
            numbers,
            pl.when(pl.any_horizontal(pl.all().is_null()))
            .then(pl.concat_str(pl.all().fill_null("(no UTF-8)"), separator=","))
            .alias("broken"),
            *(pl.col(column).alias(field) for field, column in wanted.items()),
        )
        yield _with(frame, broken)


def _with(frame: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """Rows that pyarrow could not part into columns, at their places."""
    if broken.is_empty():
        return frame
    return pl.concat([frame, broken], how="diagonal").sort("number")


def _blocks(
    path: Path,
    names: list[str] | None,
    columns: list[str],
    parsing: Any,
    told: Told,
) -> Iterator[tuple[pl.Series, pl.DataFrame, pl.DataFrame]]:
    """(row numbers, cells as bytes, broken rows) of each block of a text file."""
    skipped: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        skipped.append((row.number, row.text))
        return "skip"

    parsing.invalid_row_handler = skip
    with path.open("rb") as file:
        size = max(path.stat().st_size, 1)
        if size == 1:
            return
        reader = pyarrow.csv.open_csv(
            file,
            # One thread: only then a broken row knows its number.
            pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            parsing,
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.binary())),
        )
        first = 1
        header = 0 if names else 1  # it counts as a row to pyarrow
        for batch in reader:
            told(file.tell() / size)
            numbers, end = _numbers(first, batch.num_rows, [n - header for n, _ in skipped])
            yield (
                pl.Series("number", numbers, dtype=pl.UInt64),
                pl.DataFrame(pa.Table.from_batches([batch])),
                _broken([(n - header, t) for n, t in skipped if n - header < end]),
            )
            skipped[:] = [(n, t) for n, t in skipped if n - header >= end]
            first = end
        if skipped:
            rest = _broken([(n - header, t) for n, t in skipped])
            empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.Binary))
            yield pl.Series("number", [], dtype=pl.UInt64), empty, rest


def _text(cells: pl.Series) -> pl.Series:
    """Null where the bytes are no UTF-8."""
    try:
        return cells.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(cells.name, [_decoded(cell) for cell in cells], pl.String)


def _decoded(cell: bytes) -> str | None:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return None


def _broken(found: list[tuple[int, str]]) -> pl.DataFrame:
    schema = {"number": pl.UInt64, "broken": pl.String}
    return pl.DataFrame(found, schema=schema, orient="row")


def _numbers(first: int, good: int, broken: list[int]) -> tuple[NDArray[np.int64], int]:
    """Numbers of the good rows of a block, and the first number of the next."""
    bad = np.array(sorted(broken), np.int64)
    end = first + good
    while (grown := first + good + int((bad < end).sum())) != end:
        end = grown
    return np.setdiff1d(np.arange(first, end), bad, assume_unique=True), end
