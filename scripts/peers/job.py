"""The pipeline's job, a batch at a time in plain Python: what Quix Streams and Bytewax carry here.

Decode and check, windows in Redis, a score each, and the messages that come of it. Needs only what
their environment has, so it counts for them what an engineer who knows both and wants speed would
write; `tests/test_peers.py` compares it with the pipeline's oracle.

Windows are in strings, or in the sorted sets that one would take first and that cost more.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import redis
from xxhash import xxh3_64_intdigest as hash_of

from stream_app.core.event import Event

SIZE: Final = 64  # events in a window
SLACK: Final = 12  # further rows, so that late arrivals do not push others out of a window
SPAN_MS: Final = 24 * 3600 * 1000
LATENESS_MS: Final = 10 * 60 * 1000
TTL_S: Final = 25 * 3600
TASKS: Final = {
    "browse": b"browse",
    "search": b"browse",
    "click": b"click",
    "favourite": b"click",
    "cart": b"purchase",
    "purchase": b"purchase",
}
NUMBERS: Final = {kind: number for number, kind in enumerate(TASKS, 1)}
DUPLICATE: Final = "duplicate"
LATE: Final = "late"
THRESHOLD: Final = 0.5
ANOMALOUS: Final = 100  # of the free scorer: one event in so many

# Bytes as in the rows of the pipeline: at_ms, id, offset + 1, item, category, query, price,
# position, quantity, type
ROW: Final = Struct("<qQQIIHeBBBx")
_AT: Final = Struct("<q")
_ID: Final = Struct("<Q")
_ID_AT, _OFFSET_AT, _OFFSET_END = 8, 16, 24
_LOW: Final = (1 << 32) - 1
_MOST_PRICE: Final = 65504.0  # of two bytes

Record = tuple[bytes | None, bytes | None, int]  # key, value, offset
Score = Callable[[Sequence[bytes]], list[float]]  # one of each window, for its newest event
Headers = list[tuple[str, str | bytes | None]]  # as confluent_kafka says; bytes here


class Message(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Given(argparse.Namespace):
    """What the bench tells a worker."""

    kafka: str
    redis: str
    topic: str
    prefix: str
    group: str
    state: Path  # a folder, of all workers of the group
    number: int  # of this worker
    addresses: str  # of all workers, with semicolons
    windows: str  # strings or sorted-sets

    def job(self) -> Job:
        client = redis.Redis.from_url(self.redis)
        kept: Windows = Strings(client) if self.windows == "strings" else SortedSets(client)
        return Job(kept, self.prefix)


def given() -> Given:
    """As on the command line. No cycles are made here, so the collector may come seldom."""
    gc.set_threshold(100_000, 50, 50)
    parser = argparse.ArgumentParser()
    for name in ("--kafka", "--redis", "--topic", "--prefix", "--group", "--scorer", "--bundle"):
        parser.add_argument(name, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--addresses", required=True)
    parser.add_argument("--windows", required=True)
    found = parser.parse_args(namespace=Given())
    if found.scorer != "free":
        parser.error("the peers have the free scorer only")
    return found


def key_of(user: bytes) -> bytes:
    return b"log:" + user


def row_of(event: Event, offset: int) -> bytes:
    return ROW.pack(
        event.at_ms,
        hash_of((event.event_id or "").encode()),
        offset + 1,
        hash_of(event.item_id.encode()) & _LOW if event.item_id else 0,
        hash_of(event.category_id.encode()) & _LOW if event.category_id else 0,
        hash_of(event.query.encode()) & 0xFFFF if event.query else 0,
        min(event.price or 0.0, _MOST_PRICE),
        min(event.position or 0, 255),
        min(event.quantity or 0, 255),
        NUMBERS[event.type],
    )


def add(log: bytearray, row: bytes) -> bytes | str:
    """The window as of this row, which is in the log then; or why there is none.

    A row that is there from the same offset came a second time, and is answered from its place.
    """
    at_ms: int = _AT.unpack_from(row)[0]
    event_id = row[_ID_AT:_OFFSET_AT]
    found = log.find(event_id)
    while found >= 0 and found % ROW.size != _ID_AT:
        found = log.find(event_id, found + 1)
    stop = len(log)
    if found >= 0:
        place = found - _ID_AT
        if log[place + _OFFSET_AT : place + _OFFSET_END] != row[_OFFSET_AT:_OFFSET_END]:
            return DUPLICATE
        stop = place
    elif not stop or _AT.unpack_from(log, stop - ROW.size)[0] <= at_ms:
        log += row
    else:
        if _AT.unpack_from(log, stop - ROW.size)[0] > at_ms + LATENESS_MS:
            return LATE
        while stop and _AT.unpack_from(log, stop - ROW.size)[0] > at_ms:
            stop -= ROW.size
        log[stop:stop] = row
    stop += ROW.size
    begin = max(0, stop - SIZE * ROW.size)
    while _AT.unpack_from(log, begin)[0] <= at_ms - SPAN_MS:
        begin += ROW.size
    return bytes(log[begin:stop])


class Windows(Protocol):
    """Users' logs in Redis; a partition's are only ever changed by whoever reads it."""

    def slide(self, users: Sequence[bytes], rows: Sequence[bytes]) -> list[bytes | str]:
        """See `add`; one read and one pipeline of writes for all."""


class Strings:
    """A log is one string: MGET, then SET with EX in a pipeline."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def slide(self, users: Sequence[bytes], rows: Sequence[bytes]) -> list[bytes | str]:
        if not users:
            return []
        keys = {user: key_of(user) for user in users}
        found: Any = self._client.mget(list(keys.values()))
        logs = {user: bytearray(log or b"") for user, log in zip(keys, found, strict=True)}
        windows = [add(logs[user], row) for user, row in zip(users, rows, strict=True)]
        pipeline = self._client.pipeline(transaction=False)
        command: Any = pipeline.execute_command
        kept = (SIZE + SLACK) * ROW.size
        for user, log in logs.items():
            command("SET", keys[user], bytes(log[-kept:]), "EX", TTL_S)
        pipeline.execute()
        return windows


class SortedSets:
    """A log is a sorted set, a row a member: ZRANGE, then ZADD, ZREMRANGEBYRANK and EXPIRE."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def slide(self, users: Sequence[bytes], rows: Sequence[bytes]) -> list[bytes | str]:
        if not users:
            return []
        keys = {user: b"window:" + user for user in users}
        pipeline = self._client.pipeline(transaction=False)
        command: Any = pipeline.execute_command
        for key in keys.values():
            command("ZRANGE", key, 0, -1)
        found = zip(keys, pipeline.execute(), strict=True)
        logs = {user: bytearray(b"".join(members)) for user, members in found}
        windows: list[bytes | str] = []
        added: dict[bytes, list[int | bytes]] = {}  # at_ms, row, at_ms, row, ...
        for user, row in zip(users, rows, strict=True):
            window = add(logs[user], row)
            windows.append(window)
            if isinstance(window, bytes):
                added.setdefault(user, []).extend((_AT.unpack_from(row)[0], row))
        for user, members in added.items():
            command("ZADD", keys[user], *members)
            command("ZREMRANGEBYRANK", keys[user], 0, -SIZE - SLACK - 1)
            command("EXPIRE", keys[user], TTL_S)
        pipeline.execute()
        return windows


def free(windows: Sequence[bytes]) -> list[float]:
    """As `scripts.benchmarks.scorers.free_rule`: the same events are anomalous."""
    scores = []
    for window in windows:
        event_id: int = _ID.unpack_from(window, len(window) - ROW.size + _ID_AT)[0]
        scores.append(0.99 if event_id % ANOMALOUS == 0 else (event_id & 63) / 200)
    return scores


class Told(NamedTuple):
    """A record that was readable."""

    user: bytes
    value: bytes
    event: Event
    row: bytes


class Job:
    """Records -> messages. Its windows are in Redis before it returns."""

    def __init__(self, windows: Windows | None, prefix: str, score: Score = free) -> None:
        """`windows`: None for whoever keeps them elsewhere, and calls the parts."""
        self._windows, self._score = windows, score
        self._cleaned, self._quarantined = f"{prefix}cleaned", f"{prefix}quarantined"
        self._alerts, self._dead = f"{prefix}alerts", f"{prefix}dead-letters"
        self._decode = msgspec.json.Decoder(Event).decode
        self._headers: dict[tuple[str, float], Headers] = {}  # shared, as there are few scores

    def __call__(self, records: Iterable[Record]) -> list[Message]:
        assert self._windows is not None
        messages: list[Message] = []
        told: list[Told] = []
        read = self.read
        for key, value, offset in records:
            found = read(key, value, offset)
            if isinstance(found, Told):
                told.append(found)
            else:
                messages.append(found)
        windows = self._windows.slide([t.user for t in told], [t.row for t in told])
        return messages + self.answer(told, windows)

    def read(self, key: bytes | None, value: bytes | None, offset: int) -> Told | Message:
        """An event with its row, or a dead letter."""
        try:
            if not value:
                raise ValueError("no value")
            event = self._decode(value)
            if not value.isascii():
                value.decode()
            row = row_of(event, offset)
        except (ValueError, KeyError) as error:  # msgspec's errors are ValueErrors
            return self._dead_letter(key, value, repr(error))
        user = event.user_id.encode()
        if key != user:
            return self._dead_letter(key, value, "key-mismatch")
        return Told(user, value, event, row)

    def answer(self, told: Sequence[Told], windows: Sequence[bytes | str]) -> list[Message]:
        """What to send of these, by their windows."""
        messages: list[Message] = []
        scores = iter(self._score([w for w in windows if isinstance(w, bytes)]))
        for window, (user, value, event, _) in zip(windows, told, strict=True):
            if isinstance(window, str):
                if window == LATE:
                    messages.append(self._dead_letter(user, value, window))
                continue
            score = next(scores)
            headers = self._headers_of(event.type, score)
            if score < THRESHOLD:
                messages.append(Message(self._cleaned, user, value, headers))
                continue
            alert = {"id": event.event_id, "user": event.user_id, "score": score}
            messages.append(Message(self._quarantined, user, value, headers))
            messages.append(Message(self._alerts, user, msgspec.json.encode(alert), []))
        return messages

    def _headers_of(self, kind: str, score: float) -> Headers:
        known = kind, round(score, 3)
        found = self._headers.get(known)
        if found is None:
            found = self._headers[known] = [
                ("score", f"{score:.3f}".encode()),
                ("task", TASKS[kind]),
                ("model", b"free"),
            ]
        return found

    def _dead_letter(self, key: bytes | None, value: bytes | None, reason: str) -> Message:
        return Message(self._dead, key, value, [("reason", reason.encode())])
