"""Events -> rows, column by column: the first half of what the model sees, on the hot path.

Hashes are functions of the string alone, so rows of different workers, days and machines agree.
Knows nothing of windows; the numbers that need a user's past are derived from rows in `features`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import numpy as np
from xxhash import xxh3_64_intdigest as hash_of

from models.schema import ATTRIBUTES, LARGEST_ORDINAL, MISSING_ORDINAL, Field, Schema
from stream_app.core.event import Event
from stream_app.core.window import Rows

_NAN: Final = float("nan")
_CACHED: Final = 200_000  # strings remembered a field; some 20 MB

Column = Callable[[Sequence[Event]], np.ndarray[Any, Any]]


class Hashes(dict[str | None, int]):
    """String -> its hash of some bits, never 0; None -> 0. Forgets everything when it is full."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._mask = (1 << bits) - 1

    def __missing__(self, text: str | None) -> int:
        if text is None:
            return 0
        if len(self) >= _CACHED:
            self.clear()
        found = self[text] = (hash_of(text.encode()) & self._mask) or 1
        return found


class SchemaEncoder:
    """`ports.EventEncoder` for a schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._row = schema.row
        self._types = {name: number for number, name in enumerate(schema.type_names, 1)}
        own = schema.of_kind("category", "amount", "ordinal")
        self._columns = [(f.name, _column(f)) for f in own]
        self._unseen = [f.name for f in schema.of_kind("context")]
        items = [f.name for f in schema.of_kind("category") if f.source == "item_id"]
        self._item = items[0] if items else None

    @property
    def row(self) -> np.dtype[np.void]:
        return self._row

    @property
    def item_field(self) -> str | None:
        return self._item

    def encode(self, events: Sequence[Event]) -> Rows:
        """Rows of `events`, `seq` left at 0. Their types must be the schema's."""
        count, number_of = len(events), self._types
        rows = np.zeros(count, self._row)
        rows["at_ms"] = np.fromiter([e.at_ms for e in events], np.int64, count)
        rows["id"] = np.fromiter(
            [hash_of((e.event_id or "").encode()) for e in events], np.uint64, count
        )
        rows["type"] = np.fromiter([number_of[e.type] for e in events], np.uint8, count)
        for name, column in self._columns:
            rows[name] = column(events)
        for name in self._unseen:
            rows[name] = MISSING_ORDINAL  # what the site saw is filled in by the context stage
        return rows


def _column(field: Field) -> Column:
    if field.source.startswith(ATTRIBUTES):
        return _attribute_column(field)
    pick = attrgetter(field.source)
    if field.kind == "category":
        hashes = Hashes(field.bits).__getitem__
        return lambda events: np.fromiter(map(hashes, map(pick, events)), np.uint32, len(events))
    if field.kind == "amount":
        return lambda events: _logs([_NAN if x is None else x for x in map(pick, events)])
    return lambda events: np.fromiter(
        [
            MISSING_ORDINAL if x is None else x if x < LARGEST_ORDINAL else LARGEST_ORDINAL
            for x in map(pick, events)
        ],
        np.uint8,
        len(events),
    )


def _attribute_column(field: Field) -> Column:
    """A field that only this schema knows: text or number, whichever the producer sent."""
    name = field.source.removeprefix(ATTRIBUTES)

    def raw(events: Sequence[Event]) -> list[str | float | None]:
        return [e.attributes.get(name) if e.attributes else None for e in events]

    if field.kind == "category":
        hashes = Hashes(field.bits)
        return lambda events: np.fromiter(
            [hashes[_text(x)] for x in raw(events)], np.uint32, len(events)
        )
    if field.kind == "amount":
        return lambda events: _logs([_number(x) for x in raw(events)])
    return lambda events: np.fromiter(
        [
            MISSING_ORDINAL if not x >= 0 else int(min(x, LARGEST_ORDINAL))
            for x in map(_number, raw(events))
        ],
        np.uint8,
        len(events),
    )


def _logs(values: list[float]) -> np.ndarray[Any, Any]:
    x = np.array(values, np.float64)
    return np.copysign(np.log1p(np.abs(x)), x).astype(np.float16)


def _text(value: str | float | None) -> str | None:
    """7 and 7.0 are one thing: JSON does not tell them apart."""
    return f"{value:.17g}" if isinstance(value, (int, float)) else value


def _number(value: str | float | None) -> float:
    try:
        number = _NAN if value is None else float(value)
    except ValueError:
        return _NAN
    return number if math.isfinite(number) else _NAN
