"""What goes on in the shop, as records with the time at which each is due."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from models.simulate.shop import live
from models.simulate.world import Label
from stream_app.core.errors import Misconfigured
from stream_app.edges.feeds import Fed, Format, by_time, format_of, lies_sorted, read


class Due(NamedTuple):
    """A record to send."""

    at_s: float  # since the shop opened
    key: bytes | None
    value: bytes
    kind: str = "event"  # or a fault: broken, repeated
    label: Label | None = None  # the truth, if it is known


class Shop(Protocol):
    has_truth: bool

    def prepare(self) -> str:
        """Do what takes time; tell in a few words what kind of shop it is."""
        ...

    def open(self, now_ms: int) -> Iterator[Due]:
        """The records by the time at which they are due. `now_ms` is when the shop opens."""
        ...


class SimulatedShop:
    """Thousands of people at a human pace, and attacks from the first seconds on."""

    has_truth = True

    def __init__(self, seed: int, rate: float) -> None:
        self._rate, self._start_ms = rate, round(time.time() * 1000)
        self._feed = live(seed, rate, self._start_ms)

    def prepare(self) -> str:
        first = next(self._feed)  # those who are inside already
        self._feed = itertools.chain([first], self._feed)
        return f"simulated, about {self._rate:g} events/s"

    def open(self, now_ms: int) -> Iterator[Due]:
        """Event time is moved on, so that it is now when the shop opens."""
        encode = msgspec.json.Encoder().encode
        for event, label in ((s.event, s.label) for s in self._feed):
            at_ms, user = event["event_time"], event["user_id"]
            assert isinstance(at_ms, int)
            assert isinstance(user, str)
            after_ms = at_ms - self._start_ms
            event["event_time"] = now_ms + after_ms
            yield Due(after_ms / 1000, user.encode(), encode(event), label=label)


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

    def open(self, now_ms: int) -> Iterator[Due]:
        for place, row in enumerate(self._rows):
            yield Due(place / self._rate, row.key, row.value)

    def _events(self) -> Iterator[Fed]:
        for row in read(self._path, self._form, {}):
            if isinstance(row, Fed):
                yield row
            else:
                self.skipped += 1
