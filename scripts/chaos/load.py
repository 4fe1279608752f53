"""What is sent while things break: events of many users, some again, late or no events at all."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from scripts.benchmarks.events import BEGIN_MS, EVENTS_PER_MS, random_records
from scripts.chaos.kinds import KINDS, RARE
from tests.end_to_end.rig import Rig, Sent

MOST_RECORDS: Final = 300_000  # of a run
REPEATED: Final = 0.02  # of the records come again a little later
BEHIND_MS: Final = 20 * 60 * 1000  # beyond what `window.lateness_s` allows


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the records, and their pace."""

    a_second: int = 1500  # records
    late: float = 0.0
    malformed: float = 0.0


def records_of(seed: int, count: int, load: Load) -> Iterator[Sent]:
    """Everything follows from the seed; a record's time is the newest event's."""
    draw, other = random.Random(seed), random.Random(-seed)
    lately: list[Sent] = []
    for at, (user, value) in enumerate(random_records(count, seed)):
        at_ms = BEGIN_MS + at // EVENTS_PER_MS
        sent = Sent(user.encode(), value, at_ms)
        chance = other.random()
        if chance < load.late:
            sent = Sent(user.encode(), _behind(value), at_ms)
        elif chance < load.late + load.malformed:
            sent = _malformed(user, at, at_ms, other)
        yield sent
        lately = [*lately[-200:], sent]
        if draw.random() < REPEATED:
            yield draw.choice(lately)


def _behind(value: bytes) -> bytes:
    try:
        event: dict[str, Any] = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value  # broken on purpose
    return msgspec.json.encode(event | {"event_time": event["event_time"] - BEHIND_MS})


def _malformed(user: str, at: int, at_ms: int, draw: random.Random) -> Sent:
    weights = [RARE.get(name, 1.0) for name in KINDS]
    kind = KINDS[draw.choices(list(KINDS), weights)[0]]
    event = {"event_id": f"m{at}", "user_id": user, "type": "click", "event_time": at_ms}
    return Sent(kind.key or user.encode(), kind.make({**event, "item_id": "i1"}, draw), at_ms)


class Feed(threading.Thread):
    """Sends `least` records at an even pace, and goes on until `finish`."""

    def __init__(self, rig: Rig, seed: int, least: int, load: Load) -> None:
        super().__init__(daemon=True)
        self._rig, self._seed, self._least, self._load = rig, seed, least, load
        self._enough = threading.Event()
        self._sent: int | BaseException = TimeoutError("the load did not come to its end")

    def finish(self, patience_s: float) -> int:
        """End once `least` are sent; how many were."""
        self._enough.set()
        self.join(patience_s)
        if isinstance(self._sent, BaseException):
            raise self._sent
        return self._sent

    def run(self) -> None:
        patient: dict[str, object] = {"delivery.timeout.ms": 300_000, "log_level": 0}
        patient["reconnect.backoff.max.ms"] = 500
        try:
            self._sent = self._rig.produce(self._paced(), None, **patient)
        except Exception as error:  # told by `finish`, on the thread of the run
            self._sent = error

    def _paced(self) -> Iterator[Sent]:
        began = time.monotonic()
        for at, record in enumerate(records_of(self._seed, MOST_RECORDS, self._load)):
            if at >= self._least and self._enough.is_set():
                return
            if at % 50 == 0:
                time.sleep(max(0.0, began + at / self._load.a_second - time.monotonic()))
            yield record
