"""What the rules say becomes of each record, from the input alone.

Pure: decoding and the window rules of the stream itself, over rows that hold no more than a time
and an id. Nothing here knows a score, so a record that is accepted may end cleaned, quarantined or
as poison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import groupby

import numpy as np
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from stream_app.core.decode import UNLIMITED, decode
from stream_app.core.event import Tasks
from stream_app.core.logbook import LogBook
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.record import Record
from stream_app.core.window import DUPLICATE, HEAD, WindowPolicy, seq_of, source_tag

GROUP_RECORDS = 2048
POISON = "poison"
LATE = "late"


class Fate(StrEnum):
    """What must become of a record."""

    ACCEPTED = "accepted"  # cleaned, quarantined, or a dead letter as poison
    DUPLICATE = "duplicate"
    DEAD = "dead letter"


class Rules(Struct, frozen=True, kw_only=True):
    """By which the worker decided."""

    tasks: Tasks
    windows: WindowPolicy
    most_bytes: int = UNLIMITED  # of a record that fits the output topics
    pseudonyms: Pseudonyms | None = None  # by which alerts may name users


class Expected(Struct, frozen=True, gc=False):
    """A record, and what the rules say of it."""

    record: Record
    fate: Fate
    reason: str = ""  # of a dead letter
    user_id: str = ""  # of what could be decoded; else empty
    event_id: str = ""


def expected(records: Iterable[Record], rules: Rules) -> Iterator[Expected]:
    """The fate of each record of one topic, partition by partition in offset order.

    `records` ascend by offset within a partition. The logs begin empty: what came before the first
    record is not known.
    """
    by_place: dict[int, list[Record]] = {}
    for record in records:
        by_place.setdefault(record.partition, []).append(record)
    for _, own in sorted(by_place.items()):
        book = LogBook(np.dtype(list(HEAD)), rules.windows)
        for _, numbered in groupby(enumerate(own), lambda one: one[0] // GROUP_RECORDS):
            yield from _group([record for _, record in numbered], rules, book)


def _group(records: list[Record], rules: Rules, book: LogBook) -> Iterator[Expected]:
    decoded = decode(records, rules.tasks, rules.most_bytes)
    found = {r.record.offset: Expected(r.record, Fate.DEAD, r.reason) for r in decoded.rejected}
    if decoded.events:
        tag = source_tag(records[0].topic)
        rows = np.zeros(len(decoded.events), list(HEAD))
        rows["at_ms"] = [event.at_ms for event in decoded.events]
        rows["id"] = [xxh3_64_intdigest((e.event_id or "").encode()) for e in decoded.events]
        rows["seq"] = [seq_of(tag, record.offset + 1) for record in decoded.records]
        users = [event.user_id.encode() for event in decoded.events]
        logs = book.slide(users, rows, [seq_of(tag, records[0].offset)])
        for record, event, place in zip(
            decoded.records, decoded.events, logs.place.tolist(), strict=True
        ):
            fate, reason = Fate.ACCEPTED, ""
            if place == DUPLICATE:
                fate = Fate.DUPLICATE
            elif place < 0:
                fate, reason = Fate.DEAD, LATE
            found[record.offset] = Expected(
                record, fate, reason, event.user_id, event.event_id or ""
            )
    for record in records:
        yield found[record.offset]
