"""Stage 1b, context: what the site saw of an event's item before it, as fields of its stored row.

A schema says which of a row's categories are looked at (`ContextPlan`); for each the newest
visitors are kept (`crowd`), and an event is told of those among them that are others:

    since N   time since the N-th newest of them was there; code 20 ln(1 + seconds)
    users     how many there are, up to 16
    share M   how many of 100 have a mark: are new accounts (first seen less than 6 h before that
              visit), or did something of a type in their newest visit (10 s)
    user N    16 bits of the N-th of their numbers: everywhere the same ones of the same people, so
              that two crowds can be compared by them alone

It sees buckets of 10 s of event time before its own, by events that arrived before it. So neither
the order within a bucket nor how records fell into groups matters, and a redelivered event changes
nothing. What it saw is stored with its row; later windows and redeliveries read it from there.
Why so: docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from stream_app.core import crowd
from stream_app.core.accounts import Accounts
from stream_app.core.crowd import BUCKET_MS, CAPACITY, KEPT, SPAN, Crowds
from stream_app.core.window import Ints, Rows

What = Literal["since", "users", "share", "user"]
NEW: Final = 0  # the mark of new accounts; those of event types follow
MARKS: Final = 8
COMPANY: Final = 4  # users of a crowd whose numbers a row can keep
NONE: Final = 255
NEW_BUCKETS: Final = 6 * 3600 * 1000 // BUCKET_MS
SECONDS_CODE: Final = 20.0  # steps a factor e
SHARE_CODE: Final = 100.0

_USERS: Final = np.uint64((1 << crowd.USER_BITS) - 1)
_SMALL: Final = 1024  # things for which a book that grows has room at first
_AGE: Final = np.round(SECONDS_CODE * np.log1p(np.arange(SPAN + 1) * BUCKET_MS / 1000)).astype(
    np.uint8
)


class Asked(Struct, frozen=True):
    """A field of the row, and what it tells of which thing."""

    field: str
    thing: int  # index into the plan's things
    what: What
    place: int = 0  # N, or the mark


class ContextPlan(Struct, frozen=True):
    """What a schema wants to know of the site's side."""

    things: tuple[str, ...]  # categories of the row
    types: tuple[int, ...]  # numbers of the event types that have a mark, from mark 1 on
    asked: tuple[Asked, ...]

    def __bool__(self) -> bool:
        return bool(self.asked)


NOBODY: Final[Crowds] = np.zeros((0, CAPACITY), np.uint64)
NOTHING_ASKED: Final = ContextPlan((), (), ())


class Visits(NamedTuple):
    """Of the events of a batch, in their order; each (events, things) or (events,)."""

    things: NDArray[np.uint64]  # number of the thing in its upper half; 0: none
    bucket: NDArray[np.uint64]
    user: NDArray[np.uint64]
    visit: Crowds


def numbers_of(users: Sequence[bytes]) -> NDArray[np.uint64]:
    """(events,) 32 bits of each user."""
    return np.array([xxh3_64_intdigest(user) & 0xFFFFFFFF for user in users], np.uint64)


def visits_of(
    plan: ContextPlan, rows: Rows, user: NDArray[np.uint64], first_seen: Sequence[int]
) -> Visits:
    """`first_seen` (events,): the bucket of each user's first event."""
    things = np.zeros((len(rows), len(plan.things)), np.uint64)
    for at, field in enumerate(plan.things):
        hashed = rows[field].astype(np.uint64)
        things[:, at] = np.where(hashed != 0, hashed | np.uint64(at + 1 << 32), np.uint64(0))
    bucket = crowd.buckets(rows["at_ms"])
    age = bucket.astype(np.int64) - np.asarray(first_seen, np.int64)
    marks = (age < NEW_BUCKETS).astype(np.int64) << NEW
    for mark, number in enumerate(plan.types, NEW + 1):
        marks = marks | (rows["type"] == number).astype(np.int64) << mark
    return Visits(things, bucket, user, crowd.visits(bucket, user, marks))


def ages_ms(rows: Rows, first_seen: Sequence[int]) -> Ints:
    """(events,) since the bucket of each user's first event."""
    age: Ints = rows["at_ms"] - np.asarray(first_seen, np.int64) * BUCKET_MS
    return age


class ContextBook:
    """Crowds by thing, in memory: all there are, or those of a group. Pure; no clock."""

    def __init__(
        self, plan: ContextPlan, things: Sequence[int] = (), crowds: Crowds = NOBODY
    ) -> None:
        """`crowds` (things, CAPACITY) of `things`, each once, if something is known of them."""
        self._plan = plan
        self._slots = {thing: slot for slot, thing in enumerate(things)}
        self._crowds = crowds

    def __len__(self) -> int:
        return len(self._slots)

    def tell(self, visits: Visits, rows: Rows, *, goes_on: bool = True) -> None:
        """Fill the rows' fields, each event as of itself, and take its visit in.

        `goes_on`: not false unless nobody asks the book any more.
        """
        for at in range(len(self._plan.things)):
            asked = [a for a in self._plan.asked if a.thing == at]
            self._tell_one(at, asked, visits, rows, goes_on)

    def _tell_one(
        self, at: int, asked: Sequence[Asked], visits: Visits, rows: Rows, goes_on: bool
    ) -> None:
        """Of one kind of thing. A run is the events of a thing that follow each other in the same
        bucket: they do not see each other, so the first runs of all things are one step, and so on.
        """
        present = np.flatnonzero(visits.things[:, at])
        if not len(present):
            return
        order = present[np.argsort(visits.things[present, at], kind="stable")]
        thing, bucket = visits.things[order, at], visits.bucket[order]
        first = np.append(True, thing[1:] != thing[:-1])  # of its thing
        begins = first | np.append(True, bucket[1:] != bucket[:-1])  # a run
        run = np.cumsum(begins) - 1  # of each event
        thing_of_run = (np.cumsum(first) - 1)[begins]
        number = np.arange(len(thing_of_run)) - np.flatnonzero(first[begins])[thing_of_run]
        followed = np.append(thing_of_run[1:] == thing_of_run[:-1], False) | goes_on
        slots = self._slots_of(thing[first].tolist())
        for step in range(int(number.max()) + 1):
            now = np.flatnonzero(number == step)
            own = np.flatnonzero(number[run] == step)
            of = np.searchsorted(now, run[own])  # each event's among the runs of this step
            place = slots[thing_of_run[now]]
            seen = crowd.before(self._crowds[place], bucket[begins][now])
            _fill(rows, asked, order[own], of, seen, bucket[begins][now], visits)
            again = followed[now]
            if again.any():
                joined = again[of]
                which = (np.cumsum(again) - 1)[of[joined]]
                visit = _beside(visits.visit[order[own[joined]]], which, int(again.sum()))
                self._crowds[place[again]] = crowd.join(self._crowds[place[again]], visit)

    def _slots_of(self, things: Sequence[int]) -> Ints:
        """Where their crowds are; there is room for all of them."""
        slots = self._slots
        found = np.fromiter((slots.setdefault(t, len(slots)) for t in things), np.int64)
        if len(slots) > len(self._crowds):
            room = max(len(slots), 2 * len(self._crowds), _SMALL)
            larger = np.zeros((room, CAPACITY), np.uint64)
            larger[: len(self._crowds)] = self._crowds
            self._crowds = larger
        return found


class SiteBook:
    """The whole stage in memory, for training, offline scoring and tests."""

    def __init__(self, plan: ContextPlan) -> None:
        self._plan = plan
        self._crowds = ContextBook(plan)
        self._accounts = Accounts()

    def fill(self, partition: int, users: Sequence[bytes], rows: Rows) -> Ints | None:
        """See `ports.ContextStore`; does nothing under an empty plan."""
        if not self._plan or not len(rows):
            return None
        user = numbers_of(users)
        first, _ = self._accounts.first_seen(
            partition, user.tolist(), crowd.buckets(rows["at_ms"]).tolist()
        )
        self._crowds.tell(visits_of(self._plan, rows, user, first), rows)
        return ages_ms(rows, first)


def _beside(visit: Crowds, of: Ints, count: int) -> Crowds:
    """The visits of each run (`of`, ascending) as a row, zeros last: of one bucket, so that the
    largest KEPT are all that may stay.
    """
    order = np.lexsort((visit, of))
    visit, of = visit[order], of[order]
    user = visit >> np.uint64(8)
    begins = np.flatnonzero(np.append(True, (user[1:] != user[:-1]) | (of[1:] != of[:-1])))
    visit, of = np.bitwise_or.reduceat(visit, begins), of[begins]
    back = np.searchsorted(of, of, side="right") - 1 - np.arange(len(of))  # 0: the last of its run
    kept = back < KEPT
    row = np.zeros((count, int(back[kept].max()) + 1), np.uint64)
    row[of[kept], back[kept]] = visit[kept]
    return row


def _fill(
    rows: Rows,
    asked: Sequence[Asked],
    events: Ints,
    of: Ints,
    seen: Crowds,
    bucket: NDArray[np.uint64],
    visits: Visits,
) -> None:
    """`seen` (runs, KEPT), ascending: what the events of each run (`of`) see, in their `bucket`.

    Most events' users are not among those whom they see: to them a run tells all the same.
    """
    user = seen >> np.uint64(8) & _USERS
    itself = (user[of] == (visits.user[events] & _USERS)[:, None]).any(1)
    own, run = events[itself], of[itself]
    counts = seen != 0
    told = _told(asked, seen, bucket, counts)
    counts_own = counts[run] & (user[run] != (visits.user[own] & _USERS)[:, None])
    told_own = _told(asked, seen[run], bucket[run], counts_own)
    for field, value, value_own in zip(asked, told, told_own, strict=True):
        rows[field.field][events] = value[of]
        rows[field.field][own] = value_own


def _told(
    asked: Sequence[Asked], seen: Crowds, bucket: NDArray[np.uint64], counts: NDArray[np.bool_]
) -> list[NDArray[Any]]:
    """The fields' values for somebody who sees these of `seen` (any, KEPT) in `bucket` (any,)."""
    age = bucket[:, None].astype(np.int64) - (seen >> np.uint64(32)).astype(np.int64)
    counts = counts & (age <= SPAN)
    users = counts.sum(1)
    nth = np.where(counts, age, SPAN)
    nth.sort(1)
    # The largest first: a full bucket keeps those, so they are the same people everywhere.
    short = np.where(counts, np.maximum(seen >> np.uint64(16) & np.uint64(0xFFFF), 1), 0)
    short.sort(1)
    found: list[NDArray[Any]] = []
    for field in asked:
        value: NDArray[Any] = users
        if field.what == "since":
            value = np.where(users >= field.place, _AGE[nth[:, field.place - 1]], NONE)
        elif field.what == "share":
            marked = (seen >> np.uint64(field.place) & np.uint64(1) != 0) & counts
            share = np.round(SHARE_CODE * marked.sum(1) / np.maximum(users, 1))
            value = np.where(users > 0, share, NONE)
        elif field.what == "user":
            value = short[:, -field.place]
        found.append(value)
    return found
