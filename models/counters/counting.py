"""Counters as fields of a row: filled in order of arrival, before the row joins its window.

A row keeps what was counted before its event, as float16, so later windows read the same. Here the
state is that of one process and lasts as long as it, which is enough for files; `kept` keeps it for
a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from models.counters.act import Act, Fields, acts_of
from models.counters.aggregates import Stream
from models.schema import COUNTED, Schema
from stream_app.core.record import Source
from stream_app.core.window import Rows

Table = NDArray[np.float16]  # (events, counters)


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
        self._stream = Stream(self._fields)
        self.state = self._stream.state

    def fill(self, users: Sequence[bytes], rows: Rows) -> None:
        """Fill the rows' counters, each as of before its event, and count these events."""
        if self._columns and len(rows):
            self.write(rows, self.count(self.acts(users, rows)))

    def acts(self, users: Sequence[bytes], rows: Rows) -> list[Act]:
        """Once for each row, in order: the site's clock is read."""
        at_s = self.state.site.clock.read(rows["at_ms"].astype(np.int64))
        numbers = [xxh3_64_intdigest(user) for user in users]
        return list(acts_of(self._fields, rows, numbers, at_s))

    def count(self, acts: Sequence[Act]) -> Table:
        """Each as of before it; all that `acts` touch has to be in the state, if it is known."""
        return np.array([self._stream.step(act) for act in acts], np.float32).astype(np.float16)

    def write(self, rows: Rows, table: Table) -> None:
        for at, column in enumerate(self._columns):
            rows[column] = table[:, at]


class CountingAlone:
    """A `CounterStore` in this process alone, for files."""

    def __init__(self, schema: Schema) -> None:
        self._counting = Counting(schema)

    async def fill(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> None:
        self._counting.fill(users, rows)
