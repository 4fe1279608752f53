"""Old records, read again and made ready to be sent again.

A record keeps its key, its partition and its event id; one without an id gets the id that the
worker gave it the first time, made of its original topic, partition and offset. So an event that is
still in its user's log is found to be a duplicate, and no window has it twice.

Records of several partitions come in the order of their Kafka times; within a partition the order
of offsets holds, whatever the times say.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition
from msgspec import Struct

from stream_app.core.errors import Misconfigured, Unavailable
from stream_app.core.record import Headers, StoredRecord
from stream_app.edges.alert_feed import (
    ANSWER_S,
    POLL_S,
    is_passing,
    partitions_of,
    patiently,
    reader,
)
from stream_app.edges.ctrl_c import check
from stream_app.edges.sender import Sending

ORIGIN: Final = "kafka_dlt-original-topic"  # the first of the headers of a dead letter
OURS: Final = "shopsentry-"  # begins the headers of a scored record
SILENT_S: Final = 60.0


class Range(Struct, frozen=True, kw_only=True):
    """Part of a topic. Ends are exclusive; what is open ends where the topic ends now."""

    topic: str
    partitions: Sequence[int] = ()  # none: all
    from_offset: int | None = None
    to_offset: int | None = None
    from_ms: int | None = None  # Kafka time
    to_ms: int | None = None


class Choice(Struct, frozen=True, kw_only=True):
    """Which records of a range are meant."""

    user: str | None = None
    type: str | None = None
    reason: str | None = None  # of a dead letter


class Replayed(Struct, frozen=True):
    """A record as it goes out, and the time by which it is paced."""

    sending: Sending
    at_ms: int


def records(connection: Mapping[str, Any], chosen: Range) -> Iterator[StoredRecord]:
    """The records of a range; those that come while we read are not among them.

    `connection` is librdkafka's configuration. Raises Misconfigured, Unavailable.
    """
    with ExitStack() as stack:
        # A consumer a partition: each is read at the pace at which its records are due.
        first = stack.enter_context(reader(connection))
        places = partitions_of(first, chosen.topic)
        if unknown := sorted(set(chosen.partitions) - set(places)):
            raise Misconfigured(f"{chosen.topic} has no partition {unknown[0]}")
        runs = []
        for place in chosen.partitions or places:
            begin, end = bounds(first, chosen, place)
            if begin < end:
                consumer = stack.enter_context(
                    reader(
                        connection,
                        **{"enable.partition.eof": True, "queued.max.messages.kbytes": 4096},
                    )
                )
                runs.append(_run(consumer, TopicPartition(chosen.topic, place, begin), end))
        yield from heapq.merge(*runs, key=lambda record: record.timestamp)


def partition_count(connection: Mapping[str, Any], topic: str) -> int:
    """Raises Misconfigured: no such topic, no broker."""
    with reader(connection) as consumer:
        return len(partitions_of(consumer, topic))


def is_empty(connection: Mapping[str, Any], topic: str) -> bool:
    """Whether a topic holds no records."""
    with reader(connection) as consumer:
        ends = (edges(consumer, topic, place) for place in partitions_of(consumer, topic))
        return all(low == high for low, high in ends)


def file_records(path: Path) -> Iterator[StoredRecord]:
    """JSON lines as records without a partition; the time is the event's. Raises Misconfigured."""
    from stream_app.core.layout import Format
    from stream_app.edges.feeds import Fed, read

    for row, event in enumerate(read(path, Format.JSONL, {}), 1):
        if isinstance(event, Fed):
            yield StoredRecord(
                topic=path.name,
                partition=-1,
                offset=row,
                timestamp=event.at_ms or 0,
                key=event.key,
                value=event.value,
            )


def ready(record: StoredRecord, target: str, choice: Choice, *, partitions: int) -> Replayed | None:
    """A record of an input, cleaned or quarantined topic, or of a file, on its way to `target`.

    It keeps its partition as long as `target` has `partitions` that reach so far, and its Kafka
    time: the worker then decides as it did. None if it is not among the chosen.
    """
    peeked = _peek(record.value)
    if not _is_chosen(peeked, record.key, choice):
        return None
    from_file = record.partition < 0
    value = record.value if from_file else with_id(record.value, _origin_id(record))
    return Replayed(
        Sending(
            target,
            record.key,
            value,
            record.partition if 0 <= record.partition < partitions else -1,
            0 if from_file else record.timestamp,
            tuple((name, data) for name, data in record.headers if not name.startswith(OURS)),
        ),
        record.timestamp,
    )


def redriven(letter: StoredRecord, choice: Choice) -> Replayed | None:
    """A dead letter on its way back to where it came from, at the Kafka time of now.

    None if it is not among the chosen, or does not say where it came from.
    """
    at = max((i for i, (name, _) in enumerate(letter.headers) if name == ORIGIN), default=None)
    if at is None:
        return None
    told = {name: data.decode(errors="replace") for name, data in letter.headers[at:]}
    if choice.reason is not None and told.get("reason") != choice.reason:
        return None
    if not _is_chosen(_peek(letter.value), letter.key, choice):
        return None
    try:
        partition = int(told["kafka_dlt-original-partition"])
        offset = int(told["kafka_dlt-original-offset"])
    except (KeyError, ValueError):
        return None
    own: Headers = tuple(letter.headers[:at])
    value = with_id(letter.value, f"{told[ORIGIN]}-{partition}-{offset}")
    return Replayed(
        Sending(told[ORIGIN], letter.key, value, partition, headers=own), letter.timestamp
    )


def with_id(value: bytes | None, event_id: str) -> bytes | None:
    """The event with `event_id` if it has none; what is no JSON object stays as it is."""
    peeked = _peek(value)
    if value is None or peeked is None or peeked.id_in() is not None:
        return value
    fields = _fields.decode(value)
    inner = fields if not peeked.is_envelope() else _fields.decode(fields["data"])
    named = {**inner, "event_id": msgspec.Raw(msgspec.json.encode(event_id))}
    if peeked.is_envelope():
        named = {**fields, "data": msgspec.Raw(msgspec.json.encode(named))}
    return msgspec.json.encode(named)


class _Event(Struct):
    user_id: Any = None
    type: Any = None
    event_id: Any = None


class _Peeked(Struct):
    """What a record says of itself, as an event or an envelope with one."""

    user_id: Any = None
    type: Any = None
    event_id: Any = None
    specversion: Any = None
    data: _Event | None = None

    def is_envelope(self) -> bool:
        return self.specversion is not None and self.data is not None

    def event(self) -> _Event:
        own = _Event(self.user_id, self.type, self.event_id)
        return self.data if self.specversion is not None and self.data is not None else own

    def id_in(self) -> Any:
        return self.event().event_id


_peeking = msgspec.json.Decoder(_Peeked)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _peek(value: bytes | None) -> _Peeked | None:
    if not value:
        return None
    try:
        return _peeking.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _is_chosen(peeked: _Peeked | None, key: bytes | None, choice: Choice) -> bool:
    event = peeked.event() if peeked is not None else _Event()
    if choice.type is not None and event.type != choice.type:
        return False
    if choice.user is None:
        return True
    return choice.user == event.user_id or choice.user.encode() == key


def _origin_id(record: StoredRecord) -> str:
    return f"{record.topic}-{record.partition}-{record.offset}"


def bounds(consumer: Consumer, chosen: Range, place: int) -> tuple[int, int]:
    """First offset, and the one after the last, of the range in one partition."""
    low, high = edges(consumer, chosen.topic, place)
    begin = max(low, chosen.from_offset or 0)
    end = high if chosen.to_offset is None else min(high, chosen.to_offset)
    if chosen.from_ms is not None:
        found = _offset_at(consumer, chosen.topic, place, chosen.from_ms)
        begin = max(begin, high if found is None else found)
    if chosen.to_ms is not None:
        found = _offset_at(consumer, chosen.topic, place, chosen.to_ms)
        end = end if found is None else min(end, found)
    return begin, end


def edges(consumer: Consumer, topic: str, place: int) -> tuple[int, int]:
    """The oldest offset, and the one that the next record will get."""
    at = TopicPartition(topic, place)
    return patiently(lambda: consumer.get_watermark_offsets(at, timeout=ANSWER_S))


def _offset_at(consumer: Consumer, topic: str, place: int, at_ms: int) -> int | None:
    """The first offset not before `at_ms`; None if all records are older."""
    asked = [TopicPartition(topic, place, at_ms)]
    offset = patiently(lambda: consumer.offsets_for_times(asked, timeout=ANSWER_S))[0].offset
    return offset if offset >= 0 else None


def _headers(found: Any) -> Headers:
    return tuple((name, data or b"") for name, data in found or ())


def _run(consumer: Consumer, begin: TopicPartition, end: int) -> Iterator[StoredRecord]:
    consumer.assign([begin])
    silent_s = 0.0
    while True:
        message = consumer.poll(POLL_S)
        check()
        if message is None:
            silent_s += POLL_S
            if silent_s > SILENT_S:
                raise Unavailable(f"Kafka has sent nothing of {begin.topic} for {SILENT_S:g} s")
            continue
        silent_s = 0.0
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return  # the range ends in offsets without records: compacted, or a transaction's end
        if is_passing(message):
            continue
        offset = message.offset()
        assert offset is not None
        if offset >= end:
            return
        yield StoredRecord(
            topic=begin.topic,
            partition=begin.partition,
            offset=offset,
            timestamp=message.timestamp()[1],
            key=message.key(),
            value=message.value(),
            headers=_headers(message.headers()),
        )
        if offset + 1 >= end:
            return
