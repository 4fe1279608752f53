"""Files of shop behaviour -> contract events, row by row, in bounded memory.

A row that cannot be mapped is a `Reject`, its neighbours are unharmed. A row with a strange time is
an event all the same: the worker judges times.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import xxhash
from msgspec import Struct

from stream_app.core.errors import Misconfigured
from stream_app.core.layout import (
    KNOWN,
    LAYOUTS,
    MILLISECONDS_FROM,
    NUMBERS,
    REQUIRED,
    TEXTS,
    Format,
    Layout,
)

BLOCK_BYTES: Final = 1 << 20
BATCH_ROWS: Final = 8192
RUN_EVENTS: Final = 250_000  # sorted in memory at once


class Fed(NamedTuple):
    """An event to send: its key, its JSON, and its time (epoch ms) where it has one."""

    key: bytes
    value: bytes
    at_ms: int | None


class Reject(NamedTuple):
    """A row that is no event, and why."""

    row: int
    reason: str
    data: str


def read(path: Path, form: Format, mapping: Mapping[str, str]) -> Iterator[Fed | Reject]:
    """The rows of a file in its order. `mapping`: field -> column, over the format's own.

    Raises Misconfigured: no such file, another format, a column that is not there.
    """
    if not path.is_file():
        raise Misconfigured(f"there is no file {path}")
    for field in mapping:
        if field not in KNOWN and not field.startswith("attributes."):
            raise Misconfigured(f"events have no field {field}; there are {', '.join(KNOWN)}")
    try:
        if form is Format.JSONL:
            yield from _lines(path)
        elif form is Format.PARQUET:
            yield from _parquet(path, mapping)
        else:
            yield from _csv(path, LAYOUTS.get(form, Layout(fields={})), mapping)
    except (pa.ArrowException, OSError) as error:
        raise Misconfigured(f"{path} cannot be read as {form}: {error}") from error


def by_time(events: Iterable[Fed], run: int = RUN_EVENTS) -> Iterator[Fed]:
    """The events by their time; equal times stay in order, events without a time come first.

    More than `run` events go through sorted files, so memory stays bounded.
    """
    rest = iter(events)
    with ExitStack() as files:
        runs: list[IO[bytes]] = []
        while batch := sorted(islice(rest, run), key=_when):
            if not runs and len(batch) < run:
                yield from batch
                return
            spilled = files.enter_context(tempfile.TemporaryFile())
            _spill(batch, spilled)
            runs.append(spilled)
        yield from heapq.merge(*(_spilled(f) for f in runs), key=_when)


def _when(event: Fed) -> int:
    return event.at_ms if event.at_ms is not None else -(1 << 62)


_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(Fed)


def _spill(batch: Sequence[Fed], file: IO[bytes]) -> None:
    for event in batch:
        packed = _pack.encode(event)
        file.write(len(packed).to_bytes(4, "little") + packed)
    file.seek(0)


def _spilled(file: IO[bytes]) -> Iterator[Fed]:
    while size := file.read(4):
        yield _unpack.decode(file.read(int.from_bytes(size, "little")))


# -- JSON lines: the value goes on byte for byte


class _Line(Struct):
    user_id: str | None = None
    event_time: int | float | str | None = None
    data: msgspec.Raw = msgspec.Raw()  # of a CloudEvents envelope


_line = msgspec.json.Decoder(_Line)


def _lines(path: Path) -> Iterator[Fed | Reject]:
    with path.open("rb") as file:
        for row, line in enumerate(file, 1):
            value = line.strip()
            if not value:
                continue
            try:
                told = _line.decode(value)
                if told.user_id is None and bytes(told.data):
                    told = _line.decode(told.data)
                if not told.user_id:
                    raise msgspec.ValidationError("no user_id")
                yield Fed(told.user_id.encode(), value, _time(told.event_time)[1])
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                yield Reject(row, str(error), value.decode(errors="replace"))


# -- tables


def _csv(path: Path, layout: Layout, mapping: Mapping[str, str]) -> Iterator[Fed | Reject]:
    broken: list[Reject] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        told = f"{row.actual_columns} columns instead of {row.expected_columns}"
        broken.append(Reject(row.number or 0, told, row.text))
        return "skip"

    columns = list(layout.columns) if layout.columns else _header(path)
    reader = pyarrow.csv.open_csv(
        path,
        # One thread: only then a broken row knows its number.
        pyarrow.csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=layout.columns
        ),
        pyarrow.csv.ParseOptions(invalid_row_handler=skip),
        # Bytes: a cell that is not UTF-8 is one bad row, not the end of the file.
        pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.binary())),
    )
    mapper = _Mapper(layout, mapping, reader.schema.names)
    row = 0
    for batch in reader:
        yield from broken
        broken.clear()
        cells = [column.to_pylist() for column in batch.columns]
        for values in zip(*cells, strict=True):
            row += 1
            yield mapper.of_bytes(row, values)
    yield from broken


def _header(path: Path) -> list[str]:
    """Column names of a CSV file, by its first row."""
    with path.open("rb") as file:
        first = file.readline()
    if not first.strip():
        return []
    names = pyarrow.csv.read_csv(pa.BufferReader(first.rstrip(b"\r\n") + b"\n")).column_names
    return [str(name) for name in names]


def _parquet(path: Path, mapping: Mapping[str, str]) -> Iterator[Fed | Reject]:
    with pyarrow.parquet.ParquetFile(path) as file:
        mapper = _Mapper(Layout(fields={}), mapping, file.schema_arrow.names)
        row = 0
        for batch in file.iter_batches(BATCH_ROWS):
            cells = [column.to_pylist() for column in batch.columns]
            for values in zip(*cells, strict=True):
                row += 1
                yield mapper.of_values(row, values)


class _Mapper:
    """One row's cells -> an event."""

    def __init__(self, layout: Layout, mapping: Mapping[str, str], columns: Sequence[str]) -> None:
        own = {f: f for f in KNOWN if f in columns} if not layout.fields else layout.fields
        fields = {**own, **mapping}
        self._only_type = layout.only_type
        for field in REQUIRED:
            if field not in fields and not (field == "type" and self._only_type):
                raise Misconfigured(
                    f"which column is {field}? Say --map {field}=COLUMN; "
                    f"there are {', '.join(columns)}"
                )
        for column in fields.values():
            if column not in columns:
                raise Misconfigured(f"there is no column {column}; there are {', '.join(columns)}")
        self._columns = columns
        self._types = layout.types
        at = {field: columns.index(column) for field, column in fields.items()}
        self._user, self._time = at.pop("user_id"), at.pop("event_time")
        self._type = at.pop("type", None)
        self._event_id = at.pop("event_id", None)
        self._texts = [(f, at[f]) for f in TEXTS if f in at]
        self._numbers: list[tuple[str, int, Callable[[str], float]]] = [
            (f, at[f], kind) for f, kind in NUMBERS.items() if f in at
        ]
        self._attributes = [
            (f.removeprefix("attributes."), i) for f, i in at.items() if f.startswith("attributes.")
        ]
        self._encode = msgspec.json.Encoder().encode

    def of_bytes(self, row: int, cells: Sequence[bytes | None]) -> Fed | Reject:
        try:
            values = [cell.decode() if cell else "" for cell in cells]
        except UnicodeDecodeError as error:
            shown = ",".join((cell or b"").decode(errors="replace") for cell in cells)
            return Reject(row, f"not UTF-8: {error.reason}", shown)
        return self.of_values(row, values)

    def of_values(self, row: int, cells: Sequence[Any]) -> Fed | Reject:
        values = [_text(cell) for cell in cells]
        user = values[self._user]
        kind = values[self._type] if self._type is not None else self._only_type or ""
        if not user:
            return self._reject(row, values, "no user")
        if self._types is not None:
            known = self._types.get(kind)
            if known is None:
                return self._reject(row, values, f"unknown type {kind!r}")
            kind = known
        event_time, at_ms = _time(cells[self._time])
        event: dict[str, Any] = {
            "event_id": (values[self._event_id] if self._event_id is not None else "")
            or f"{row}-{xxhash.xxh3_64_hexdigest(chr(31).join(values).encode())}",
            "user_id": user,
            "type": kind,
            "event_time": event_time,
        }
        for text, i in self._texts:
            if values[i]:
                event[text] = values[i]
        for field, i, number in self._numbers:
            if values[i]:
                try:
                    event[field] = number(values[i])
                except ValueError:
                    return self._reject(row, values, f"{field} is no number: {values[i]!r}")
        if self._attributes:
            event["attributes"] = {name: values[i] for name, i in self._attributes if values[i]}
        return Fed(user.encode(), self._encode(event), at_ms)

    def _reject(self, row: int, values: Sequence[str], reason: str) -> Reject:
        shown = dict(zip(self._columns, values, strict=True))
        return Reject(row, reason, self._encode(shown).decode())


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def _time(cell: object) -> tuple[object, int | None]:
    """A time as it goes on the wire, and in epoch ms; what is no time goes on as it is."""
    if isinstance(cell, datetime):
        at_ms = _epoch_ms(cell)
        return at_ms, at_ms
    if isinstance(cell, date):
        return _time(datetime(cell.year, cell.month, cell.day, tzinfo=UTC))
    if isinstance(cell, bytes):
        cell = cell.decode(errors="replace")
    try:
        if isinstance(cell, int | float):
            number = float(cell)
        elif isinstance(cell, str):
            text = cell.strip().removesuffix(" UTC")
            if not text.replace(".", "", 1).lstrip("-").isdecimal():
                at_ms = _epoch_ms(datetime.fromisoformat(text))
                return at_ms, at_ms
            number = float(text)
        else:
            return cell, None
        at_ms = round(number if abs(number) >= MILLISECONDS_FROM else number * 1000)
    except (ValueError, OverflowError):
        return cell, None
    return at_ms, at_ms


def _epoch_ms(at: datetime) -> int:
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
