"""What goes on in the shop, as records with the time at which each is due."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from models.simulate.shop import live
from models.simulate.world import Label, Simulated
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format, format_of, lies_sorted
from stream_app.edges.feeds import Fed, by_time, read

EVENT: Final = "event"
BEFORE: Final = "before"  # of the minute before we look
HISTORY_S: Final = 60.0
HISTORY_EVENTS: Final = 12_000  # at most: the worker takes some seconds for them


class Due(NamedTuple):
    """A record to send."""

    at_s: float  # since we look
    key: bytes | None
    value: bytes
    kind: str = EVENT  # before, or a fault: broken, repeated
    label: Label | None = None  # the truth, if it is known


class Shop(Protocol):
    has_truth: bool
    skipped: int  # rows of a file that are no events

    def prepare(self) -> str:
        """Do what takes time; tell in a few words what kind of shop it is."""
        ...

    def history(self, now_ms: int) -> Iterator[Due]:
        """What happened just before `now_ms`, so that the people inside are no strangers."""
        ...

    def open(self, now_ms: int) -> Iterator[Due]:
        """What happens from `now_ms` on, by the time at which it is due."""
        ...


class SimulatedShop:
    """Thousands of people at a human pace, and attacks from the first seconds on."""

    has_truth = True
    skipped = 0

    def __init__(self, seed: int, rate: float) -> None:
        self._rate = rate
        self._before_ms = round(1000 * min(HISTORY_S, HISTORY_EVENTS / rate))
        self._open_ms = round(time.time() * 1000)  # by its own clock, which we set forward
        self._feed = live(seed, rate, self._open_ms - self._before_ms)

    def prepare(self) -> str:
        first = next(self._feed)  # those who are inside already
        self._feed = itertools.chain([first], self._feed)
        return f"simulated, about {self._rate:g} events/s"

    def history(self, now_ms: int) -> Iterator[Due]:
        first = next(self._feed)
        while _time(first) < self._open_ms:
            yield self._due(first, now_ms)
            first = next(self._feed)
        self._feed = itertools.chain([first], self._feed)

    def open(self, now_ms: int) -> Iterator[Due]:
        return (self._due(simulated, now_ms) for simulated in self._feed)

    def _due(self, simulated: Simulated, now_ms: int) -> Due:
        """Event time is moved on, so that it is `now_ms` when we begin to look."""
        event, user = simulated.event, simulated.event["user_id"]
        assert isinstance(user, str)
        after_ms = _time(simulated) - self._open_ms
        event["event_time"] = now_ms + after_ms
        kind = EVENT if after_ms >= 0 else BEFORE
        value = msgspec.json.encode(event)
        return Due(after_ms / 1000, user.encode(), value, kind, simulated.label)


def _time(simulated: Simulated) -> int:
    at_ms = simulated.event["event_time"]
    assert isinstance(at_ms, int)
    return at_ms


class FiledShop:
    """A file's events in the order of their time, at an even rate."""

    has_truth = False

    def __init__(self, path: Path, form: Format | None, rate: float) -> None:
        """Raises Misconfigured."""
        self._path, self._rate = path, rate
        self._form = form or format_of(path)
        self._rows: Iterator[Fed] = iter(())
        self.skipped = 0  # rows that are no events
        if not path.is_file():
            raise Misconfigured(f"there is no file {path}")

    def prepare(self) -> str:
        rows = self._events()
        self._rows = rows if lies_sorted(self._form) else by_time(rows)
        first = next(self._rows, None)
        if first is None:
            raise Misconfigured(f"{self._path} has no events that can be read as {self._form}")
        self._rows = itertools.chain([first], self._rows)
        return f"{self._path.name}, {self._rate:g} events/s"

    def history(self, now_ms: int) -> Iterator[Due]:
        return iter(())

    def open(self, now_ms: int) -> Iterator[Due]:
        for place, row in enumerate(self._rows):
            yield Due(place / self._rate, row.key, row.value)

    def _events(self) -> Iterator[Fed]:
        for row in read(self._path, self._form, {}):
            if isinstance(row, Fed):
                yield row
            else:
                self.skipped += 1
