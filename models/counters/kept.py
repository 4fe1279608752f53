"""Counters in the stream: the state of `counting`, kept in a store and advanced step by step.

    some rows -> what they touch, from the store unless it is at hand
              -> counted, each as of before it
              -> the store takes all that changed, and the rows' counters, or nothing of it

The store takes a step if it has counted exactly up to the record before. So a state never holds
part of a step, and whoever has an old one (a worker that lost the partition and does not know yet,
or that was cut off before it heard the answer) is refused, forgets, and reads again. Counters of
records that are counted and not committed are kept beside the state: when these come again, their
rows get the same. Counting is a function of the records up to there, so it does not matter who
counts, nor how records fell into steps.

What is counted is what comes in one partition; a worker takes such a model only where that is all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct, msgpack
from xxhash import xxh3_64_intdigest

from models.counters.at_hand import AtHand
from models.counters.counting import Counting, Table
from models.schema import Schema
from stream_app.core.errors import Misconfigured
from stream_app.core.ports import Advance, Key, StateStore
from stream_app.core.record import Source
from stream_app.core.window import OFFSET_BITS, Ints, Rows, source_tag

CHUNK: Final = 256  # rows of a step at most
# Of what a step changes, at most, unless it is of one row: Redis 7 takes a millisecond for each
# megabyte that a script is given, and answers nobody meanwhile. A user may have 100 KB.
STEP_BYTES: Final = 2_000_000
FORM: Final = 1  # of what is stored: raise it when a struct of the state changes
AT_HAND: Final = 50_000  # users, and as many items, in memory too

_OFFSET: Final = np.uint64((1 << OFFSET_BITS) - 1)


class _Answers(Struct):
    """Counters of rows that are counted and may come again, by the offset after theirs."""

    ends: Ints
    table: Table

    @classmethod
    def of(cls, stored: Sequence[bytes], width: int) -> _Answers:
        found = cls(np.zeros(0, np.int64), np.zeros((0, width), np.float16))
        for one in sorted(stored):  # they begin with their offsets, big-endian
            rows = np.frombuffer(one, [("end", ">i8"), ("counted", "<f2", (width,))])
            found = found.beside(rows["end"].astype(np.int64), rows["counted"], 0)
        return found

    def beside(self, ends: Ints, table: Table, committed: int) -> _Answers:
        """And these; without what is committed."""
        kept = self.ends > committed
        return _Answers(
            np.concatenate([self.ends[kept], ends]),
            np.concatenate([self.table[kept], table.astype(np.float16)]),
        )

    def told(self, ends: Ints) -> Table:
        """NaN of those that nobody remembers: they were committed, and come again all the same."""
        found = np.full((len(ends), self.table.shape[1]), np.nan, np.float16)
        at = np.searchsorted(self.ends, ends)
        known = at < len(self.ends)
        known[known] = self.ends[at[known]] == ends[known]
        found[known] = self.table[at[known]]
        return found


def _packed(ends: Ints, table: Table) -> bytes:
    """As `_Answers.of` reads it."""
    rows = np.zeros(len(ends), [("end", ">i8"), ("counted", "<f2", table.shape[1:])])
    rows["end"], rows["counted"] = ends, table
    return rows.tobytes()


def _form(schema: Schema) -> str:
    """Of what is stored. Numbers of types and of things mean nothing under another schema, even if
    its counters have the same names.
    """
    fields = schema.of_kind("category", "amount", "ordinal")
    told = [
        FORM,
        schema.counter_names,
        schema.type_names,
        [(f.name, f.kind, f.source, f.bits) for f in fields],
    ]
    return f"{xxh3_64_intdigest(msgpack.encode(told)) & 0xFFFFFFFF:08x}"


class _Known(Struct):
    """Of one source: what this worker has at hand, as of the record before `end`."""

    counting: Counting
    at_hand: AtHand
    end: int
    answers: _Answers


class KeptCounting:
    """A `CounterStore` over a `StateStore`."""

    def __init__(self, schema: Schema, store: StateStore, at_hand: int = AT_HAND) -> None:
        self._schema = schema
        self._store = store
        self._most = at_hand
        self._width = len(schema.counter_names)
        self._form = _form(schema)
        self._known: dict[Source, _Known] = {}
        self._turn = asyncio.Lock()  # two at once would count into one state, and the store take it
        self._rows = CHUNK  # of a step: fewer while they change much

    def begins(self, source: Source) -> None:
        """It is ours (again): others may have counted meanwhile."""
        self._known.pop(source, None)

    async def fill(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> None:
        """See `ports.CounterStore`. Raises StoreUnavailable, Misconfigured."""
        if source.partition:  # a worker starts with one; a topic may get more while it runs
            raise Misconfigured(
                f"{source.topic} has more than one partition by now, and the model reads counters "
                "of all that went before: have all events sent to a topic with one partition, or "
                "serve a model without counters"
            )
        tag = source_tag(source.topic)
        done = max((seq for seq in committed if seq >> OFFSET_BITS == tag), default=0) & int(
            _OFFSET
        )
        async with self._turn:
            try:
                await self._fill(source, users, rows, done)
            except BaseException:  # what is at hand may be ahead of the store
                self.begins(source)
                raise

    async def _fill(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: int
    ) -> None:
        ends = (rows["seq"] & _OFFSET).astype(np.int64)
        at = 0
        while True:
            own = self._known.get(source) or await self._read(source)
            told = slice(at, max(at, int(np.searchsorted(ends, own.end, side="right"))))
            own.counting.write(rows[told], own.answers.told(ends[told]))
            at = told.stop
            if at == len(rows):
                return
            some = slice(at, min(at + self._rows, len(rows)))
            if await self._advance(source, own, users[some], rows[some], ends[some], committed):
                at = some.stop
            else:
                self.begins(source)

    async def _read(self, source: Source) -> _Known:
        stored = await self._store.begin(source, self._form)
        counting = Counting(self._schema)
        at_hand = AtHand(counting.state, self._most)
        if stored.site is not None:
            at_hand.put_site(stored.site)
        answers = _Answers.of(stored.answers, self._width)
        own = self._known[source] = _Known(counting, at_hand, stored.end, answers)
        return own

    async def _advance(
        self,
        source: Source,
        own: _Known,
        users: Sequence[bytes],
        rows: Rows,
        ends: Ints,
        committed: int,
    ) -> bool:
        """Count the rows. False if the store has counted some of them already, or if they change
        too much for one step: what is at hand is of no use then.
        """
        acts, at_hand = own.counting.acts(users, rows), own.at_hand
        named = at_hand.named(acts)
        await self._load(source, at_hand, named)
        left, visitors = at_hand.left(acts), at_hand.visitors(acts)
        await self._load(source, at_hand, left | visitors)

        def counted() -> tuple[Table, dict[Key, bytes]]:
            return own.counting.count(acts), at_hand.changed(named | left)

        table, changed = await asyncio.to_thread(counted)
        size = sum(map(len, changed.values()))
        if size > STEP_BYTES and len(rows) > 1:
            self._rows = max(1, len(rows) * STEP_BYTES // (2 * size))
            return False
        end = int(ends[-1])
        step = Advance(own.end, end, committed, changed, _packed(ends, table))
        if not await self._store.advance(source, self._form, step):
            return False
        if len(rows) == self._rows and 4 * size < STEP_BYTES:
            self._rows = min(2 * self._rows, CHUNK)
        own.counting.write(rows, table)
        own.answers = own.answers.beside(ends, table, committed)
        own.end = end
        at_hand.used(visitors | left | named)
        return True

    async def _load(self, source: Source, at_hand: AtHand, keys: set[Key]) -> None:
        missing = at_hand.missing(keys)
        if missing:
            stored = await self._store.read(source, self._form, missing)
            await asyncio.to_thread(at_hand.put, missing, stored)  # a large user takes 3 ms
