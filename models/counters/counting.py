"""Counters as fields of a row: filled in order of arrival, before the row joins its window.

A row keeps what was counted before its event, as float16, so later windows read the same. The state
is that of one process and lasts as long as it: files are counted from their beginning, a worker
cannot (a restart would forget, and other partitions would not be seen).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from models.counters.act import Clock, Fields, acts_of
from models.counters.aggregates import Stream
from models.schema import COUNTED, Schema
from stream_app.core.ports import ContextStore
from stream_app.core.window import Ints, Rows


def names_for(schema: Schema) -> tuple[str, ...]:
    """What is counted of events of this schema."""
    return _names(Fields.of_schema(schema))


@lru_cache(maxsize=16)
def _names(fields: Fields) -> tuple[str, ...]:
    return Stream(fields).names


class Counting:
    """The counters of one stream of events; does nothing unless the schema asks for them."""

    def __init__(self, schema: Schema) -> None:
        self._fields = Fields.of_schema(schema)
        self._columns = [f"{COUNTED}{at}" for at in range(len(schema.counter_names))]
        self._stream, self._clock = Stream(self._fields), Clock()
        self._users: dict[bytes, int] = {}

    def fill(self, users: Sequence[bytes], rows: Rows) -> None:
        """Fill the rows' counters, each as of before its event, and count these events."""
        if not self._columns or not len(rows):
            return
        known = self._users
        number = [known.setdefault(user, len(known)) for user in users]
        at_s = self._clock.read(rows["at_ms"].astype(np.int64))
        found = [self._stream.step(act) for act in acts_of(self._fields, rows, number, at_s)]
        table = np.array(found, np.float32).astype(np.float16)
        for at, column in enumerate(self._columns):
            rows[column] = table[:, at]


class Counted:
    """A `ContextStore` that counts as well."""

    def __init__(self, store: ContextStore, schema: Schema) -> None:
        self._store, self._counting = store, Counting(schema)

    async def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Ints | None:
        ages_ms = await self._store.fill(partition, users, rows)
        self._counting.fill(users, rows)
        return ages_ms
