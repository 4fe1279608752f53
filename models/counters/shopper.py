"""What one user did so far. A state holds earlier events only, until `add` is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeVar

from msgspec import Struct, field

from models.counters.act import HOUR, NAN, SLOTS, Act
from models.counters.keep import keep

SESSION_BREAK_S: Final = 1800.0
WINDOW: Final = 64
_TIMES: Final = 256  # of the newest events
_GAPS: Final = 15
_YOUNG_EVENTS: Final = 10
_YOUNG_S: Final = 6 * HOUR
_RATE: Final = 0.1  # of the running mean of gaps
_COMPANY: Final = 400  # others remembered; above it the less seen half is forgotten

Entry = TypeVar("Entry")


class Session(Struct, array_like=True, gc=False):
    """What a user did since the last long rest."""

    since_s: float
    n: int = 0
    fresh_groups: int = 0
    different: list[int] = field(default_factory=lambda: [0, 0])  # items, groups
    items: dict[int, int] = field(default_factory=dict)  # events before its last one
    groups: dict[int, int] = field(default_factory=dict)
    slots: list[int] = field(default_factory=lambda: [0] * SLOTS)


class Known(Struct, array_like=True, gc=False):
    """What a user did with one item or group."""

    times: int = 0
    at_s: float = NAN  # last
    did: int = 0  # bits: the types


NEVER: Final = Known()


class Shopper(Struct, array_like=True, gc=False):
    number: int
    since_s: float
    last_s: float
    session: Session
    values: list[list[float]]  # of those that are compared: running mean, number of values
    others: list[dict[int, int]]  # of each further category: times seen
    n: int = 0
    sessions: int = 0
    last: Act | None = None
    gap: float = NAN  # log(1 + s) from the last event to the one that arrives
    gaps: list[float] = field(default_factory=list)
    gap_mean: float = 4.0
    gap_variance: float = 4.0
    times: list[float] = field(default_factory=list)  # ascending
    hours: list[int] = field(default_factory=lambda: [0] * 24)
    slots: list[int] = field(default_factory=lambda: [0] * SLOTS)
    items: dict[int, Known] = field(default_factory=dict)
    groups: dict[int, Known] = field(default_factory=dict)
    known_groups: dict[int, int] = field(default_factory=dict)  # earlier sessions that had it
    item_top: int = 0
    group_top: int = 0
    window_items: list[int] = field(default_factory=list)
    window_groups: list[int] = field(default_factory=list)
    window_slots: list[int] = field(default_factory=list)
    # Of one item, one group, one type, up to the event that arrives.
    runs: list[int] = field(default_factory=lambda: [0, 0, 0])
    company: dict[int, int] = field(default_factory=dict)  # other users: items shared with them
    step_run: int = 0  # steps in a row that others took before
    carried: list[float] = field(default_factory=list)  # running means of what the site says

    @classmethod
    def begun(cls, number: int, at_s: float, values: int, others: int) -> Shopper:
        """Nothing is known of the user, of whom an event arrives."""
        blank = [[0.0, 0.0] for _ in range(values)]
        return cls(number, at_s, at_s, Session(at_s), blank, [{} for _ in range(others)])

    def young(self, at_s: float) -> bool:
        return self.n < _YOUNG_EVENTS and at_s - self.since_s < _YOUNG_S

    def arrive(self, act: Act) -> None:
        """What the time and fields of an event say before it is counted: gap, session, runs."""
        last = self.last
        rest_s = max(0.0, act.at_s - self.last_s)
        self.gap = math.log1p(rest_s) if last is not None else NAN
        if last is None or rest_s > SESSION_BREAK_S:
            for group in self.session.groups:
                if group not in self.known_groups:
                    keep(self.known_groups, float)  # the rarer half goes
                self.known_groups[group] = self.known_groups.get(group, 0) + 1
            self.session = Session(act.at_s)
            self.sessions += 1
        if last is not None:
            item, group, slot = self.runs
            self.runs = [
                item + 1 if act.item and act.item == last.item else 0,
                group + 1 if act.group and act.group == last.group else 0,
                slot + 1 if act.slot == last.slot else 0,
            ]

    def add(self, act: Act) -> None:
        """Count the event that arrived."""
        at_s, item, group, slot = act.at_s, act.item, act.group, act.slot
        if self.last is not None:
            _push(self.gaps, self.gap, _GAPS)
            off = self.gap - self.gap_mean
            self.gap_mean += _RATE * off
            spread = (1 - _RATE) * (self.gap_variance + _RATE * off * off)
            self.gap_variance = max(spread, 0.05)
        self.last_s = max(at_s, self.last_s)
        self.times.append(self.last_s)
        if len(self.times) > 2 * _TIMES:
            del self.times[:-_TIMES]
        self.hours[int(at_s / HOUR) % 24] += 1
        self.slots[slot] += 1
        session = self.session
        if item:
            self.item_top = max(self.item_top, _note(self.items, item, at_s, slot))
            session.different[0] += _meet(session.items, item, session.n)
        if group:
            if self.n and group not in self.groups:
                session.fresh_groups += 1
            self.group_top = max(self.group_top, _note(self.groups, group, at_s, slot))
            session.different[1] += _meet(session.groups, group, session.n)
        session.n += 1
        session.slots[slot] += 1
        _push(self.window_items, item, WINDOW)
        _push(self.window_groups, group, WINDOW)
        _push(self.window_slots, slot, WINDOW)
        self.n += 1
        self.last = act

    def met(self, others: Sequence[int]) -> None:
        """Others were on an item that the user came to for the first time."""
        company = self.company
        for other in others:
            company[other] = company.get(other, 0) + 1
        if len(company) > _COMPANY:
            most = sorted(company.items(), key=lambda pair: pair[1], reverse=True)
            self.company = dict(most[: _COMPANY // 2])


def _note(known: dict[int, Known], thing: int, at_s: float, slot: int) -> int:
    """Times seen, this one included."""
    own = known.get(thing)
    if own is None:
        keep(known, lambda one: one.at_s)
        own = known[thing] = Known()
    own.times += 1
    own.at_s = at_s
    own.did |= 1 << slot
    return own.times


def _meet(known: dict[int, int], thing: int, now: int) -> bool:
    """Whether it is new to a session. One that never rests forgets as well."""
    new = thing not in known
    if new:
        keep(known, float)
    known[thing] = now
    return new


def _push(newest: list[Entry], one: Entry, most: int) -> None:
    newest.append(one)
    if len(newest) > most:
        del newest[0]
