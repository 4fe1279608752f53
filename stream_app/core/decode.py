"""Stage 1: records -> events, or the reason why not.

Never raises on input: what cannot become an event is a `Rejected`, and its neighbours are unharmed.
A record is decoded alone; decoding joined lines would take `{}{}` for two records.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from stream_app.core.event import MAX_TIME_MS, Event, Tasks
from stream_app.core.record import Record
from stream_app.core.shape import SLIGHT, excess

AHEAD_MS: Final = 5 * 60 * 1000  # an event may be this far ahead of its record's Kafka time
TOO_LARGE: Final = "too-large"
UNLIMITED: Final = 1 << 62  # bytes


class Rejected(Struct, frozen=True):
    """A record that is no event: `reason` is a short fixed word, `detail` is for people."""

    record: Record
    reason: str
    detail: str


class Decoded(Struct, frozen=True):
    """`records[i]` holds `events[i]`; both are in offset order."""

    records: Sequence[Record]
    events: Sequence[Event]
    rejected: Sequence[Rejected]


class _TextTime(Struct):
    event_time: Annotated[datetime, Meta(tz=True)]


class _Envelope(Struct):
    """A CloudEvents 1.0 structured envelope; the event is in `data`."""

    specversion: str
    data: msgspec.Raw


_event = msgspec.json.Decoder(Event)
_text_time = msgspec.json.Decoder(_TextTime)
_envelope = msgspec.json.Decoder(_Envelope)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(records: Sequence[Record], tasks: Tasks, most_bytes: int = UNLIMITED) -> Decoded:
    """Decode a run of records of one partition.

    `most_bytes`: a larger record would not fit the output topics, so it is rejected.
    """
    kept: list[Record] = []
    events: list[Event] = []
    rejected: list[Rejected] = []
    decode_event, known_types = _event.decode, tasks.of_type
    for record in records:
        value, key = record.value, record.key
        if len(value or b"") > most_bytes or (record.headers and size_of(record) > most_bytes):
            told = f"{size_of(record)} bytes; the output topics take {most_bytes}"
            rejected.append(Rejected(record, TOO_LARGE, told))
            continue
        if not value:
            rejected.append(Rejected(record, "empty", "the record has no value"))
            continue
        try:
            event = decode_event(value)
            if not value.isascii():
                value.decode()  # skipped fields too: readers of `cleaned` would choke on them
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            found = _decode_slowly(value)
            if isinstance(found, tuple):
                rejected.append(Rejected(record, *found))
                continue
            event = found
        if len(value) > SLIGHT and (beyond := excess(value)):
            rejected.append(Rejected(record, *beyond))
        elif event.type not in known_types:
            rejected.append(Rejected(record, "invalid", f"unknown type {event.type!r}"))
        elif key is not None and key != event.user_id.encode():
            rejected.append(Rejected(record, "key-mismatch", "the key is not the user id"))
        elif event.at_ms > record.timestamp + AHEAD_MS:
            ahead_s = (event.at_ms - record.timestamp) // 1000
            rejected.append(Rejected(record, "future", f"{ahead_s} s ahead of the record's time"))
        else:
            if event.event_id is None:
                event.event_id = f"{record.topic}-{record.partition}-{record.offset}"
            kept.append(record)
            events.append(event)
    return Decoded(kept, events, rejected)


def size_of(record: Record) -> int:
    """Bytes of a record as they count against a topic's limit, but for Kafka's own few."""
    carried = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + carried


def _decode_slowly(value: bytes) -> Event | tuple[str, str]:
    """The rare shapes: an RFC 3339 time, a CloudEvents envelope; else (reason, detail)."""
    try:
        value.decode()
        try:
            return _decode_text_time(value)
        except msgspec.ValidationError as error:
            data = _unwrap(value)
            if data is None:
                return "invalid", str(error)
            try:
                return _event.decode(data)
            except msgspec.ValidationError:
                return _decode_text_time(data)
    except RecursionError:
        return "too-deep", "the JSON is nested too deeply"
    except UnicodeDecodeError as error:
        return "not-utf8", f"byte {error.start}: {error.reason}"
    except msgspec.ValidationError as error:
        return "invalid", str(error)
    except msgspec.DecodeError as error:
        return "not-json", str(error)


def _decode_text_time(value: bytes) -> Event:
    """If its time is not the matter, raises `msgspec.ValidationError` with what is."""
    try:
        at = _text_time.decode(value).event_time
    except msgspec.ValidationError:
        return _event.decode(value)  # raises: says what is wrong with the event itself
    fields = _raw_fields.decode(value)
    at_ms = min(max(round(at.timestamp() * 1000), -1), MAX_TIME_MS + 1)
    fields["event_time"] = msgspec.Raw(b"%d" % at_ms)
    return _event.decode(msgspec.json.encode(fields))


def _unwrap(value: bytes) -> msgspec.Raw | None:
    try:
        return _envelope.decode(value).data
    except msgspec.ValidationError:
        return None
