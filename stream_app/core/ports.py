"""What the pipeline needs of the outside; for each a real edge and one in memory, tested alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from stream_app.core.alerting import Anomaly, Verdict
from stream_app.core.campaign import News, Sighting
from stream_app.core.decision import Thresholds
from stream_app.core.errors import StoreUnavailable
from stream_app.core.event import Event, Tasks
from stream_app.core.outcome import Message, Outcome, Output
from stream_app.core.record import Record, Source
from stream_app.core.score import Reason, Scores
from stream_app.core.window import Ints, Logs, Rows, Windows

Key = tuple[bytes, int]  # of a state's value: its kind, and its number
SITE: Final[Key] = (b"s", 0)


class EventEncoder(Protocol):
    """Events -> rows as the schema of the model has them."""

    @property
    def row(self) -> np.dtype[np.void]:
        """`window.HEAD`, then the schema's fields."""
        ...

    @property
    def item_field(self) -> str | None:
        """The field of the row that has the event's item, if there is one."""
        ...

    def encode(self, events: Sequence[Event]) -> Rows:
        """(events,) rows with at_ms, id and the schema's fields; `seq` is left for the caller."""
        ...


class WindowStore(Protocol):
    """Users' logs. Sliding the same rows again changes nothing and answers the same."""

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        """Judge and append the rows of one source (ascending seq; `users[i]` is the user of
        `rows[i]`).

        `committed`: the committed seq of each source of this partition; older ones than the store
        was told before are a zombie's, and change nothing. Raises StoreUnavailable.
        """
        ...


class Told(NamedTuple):
    """Events have been told what the site saw."""

    ages_ms: Ints | None  # of event time since each user was first seen; None if nobody keeps that
    join: Callable[[], Awaitable[None]]  # remember these events; raises StoreUnavailable


async def no_more() -> None:
    """A `Told.join` with nothing to do."""


class ContextStore(Protocol):
    """What the site saw of things. A redelivered event changes nothing."""

    async def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Told:
        """Fill the rows' fields of what the site saw before each. Raises StoreUnavailable.

        Events are to be joined once their rows are stored, before those behind them are told: if
        they come again until then, they are told the same, and afterwards their rows are there.
        """
        ...


class CounterStore(Protocol):
    """What was counted of the past of an event's user, item and site. A redelivered event is told
    what it was told, and counts once.
    """

    async def fill(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> None:
        """Fill the rows' counters, each as of before its event, and count these events. `rows` and
        `committed` as for `WindowStore.slide`. Raises StoreUnavailable.
        """
        ...


class Stored(NamedTuple):
    """Of a source's state: how far it is, and what is needed to go on from there."""

    end: int  # the offset after the last record in it
    site: bytes | None  # what SITE is now
    answers: list[bytes]  # of steps whose records may come again


class Advance(NamedTuple):
    """A step of a source's state."""

    begin: int  # it has to be there
    end: int
    committed: int  # answers of records before it are not needed any more
    values: Mapping[Key, bytes]
    answer: bytes


class StateStore(Protocol):
    """A state for each source, of named values; `form` tells apart what cannot be read alike."""

    async def begin(self, source: Source, form: str) -> Stored:
        """Raises StoreUnavailable."""
        ...

    async def read(self, source: Source, form: str, keys: Sequence[Key]) -> list[bytes | None]:
        """Raises StoreUnavailable."""
        ...

    async def advance(self, source: Source, form: str, step: Advance) -> bool:
        """Take all of the step, or nothing if the state is not where it begins: false.
        Raises StoreUnavailable.
        """
        ...


class AlertLog(Protocol):
    """Who alerted lately."""

    async def judge(self, partition: int, anomalies: Sequence[Anomaly]) -> list[Verdict]:
        """Step each anomaly, in order. Raises StoreUnavailable."""
        ...


class CampaignStore(Protocol):
    """Anomalous events by what they share, of all partitions and workers."""

    async def follow(self, sightings: Sequence[Sighting]) -> list[list[News]]:
        """Join the events to the logs of their things. Returns what each of them tells: campaigns
        that are over by then, and its own campaign, begun or grown. One that comes again changes no
        log, and tells of its campaign what it told before. Raises StoreUnavailable.
        """
        ...


class Scorer(Protocol):
    """A bundle on a device. Never blocks the event loop."""

    @property
    def version(self) -> str: ...
    @property
    def device(self) -> str:
        """cpu or cuda."""
        ...

    @property
    def tasks(self) -> Tasks: ...
    @property
    def thresholds(self) -> Thresholds: ...

    async def score(self, windows: Windows, tasks: Ints) -> Scores:
        """Score each window under its task. A window that cannot be scored comes back as NaN.

        Raises DeviceFailed.
        """
        ...

    async def explain(self, windows: Windows, tasks: Ints) -> list[tuple[Reason, ...]]:
        """Why each window looks unusual, the most telling reason first. Raises DeviceFailed."""
        ...

    def close(self) -> None:
        """Drop what waits, end what runs. May take as long as one batch does."""
        ...


class Outbox(Protocol):
    """The output topics."""

    async def publish(
        self, source: Source, next_offset: int, messages: Mapping[Output, Sequence[Message]]
    ) -> Awaitable[None]:
        """Hand over the outputs of a group of `source`, in order of offsets; what comes back is
        done once the brokers confirmed all, and its records may be acked.

        `next_offset`: after the last record of the group. Either raises OutboxUnavailable,
        OutputsWithdrawn.
        """
        ...


class Meter(Protocol):
    """Who counts."""

    def group(
        self, source: Source, records: Sequence[Record], outcome: Outcome, took_s: float
    ) -> None:
        """A group is acked; it took this long from its first step."""
        ...

    def waiting(self, source: Source, error: StoreUnavailable) -> None:
        """A partition stands still because of `error`, and will try again."""
        ...
