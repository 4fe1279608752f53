"""What one user did so far. A state holds earlier events only, until `add` is called."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Final

from models.counters.act import HOUR, NAN, SLOTS, Act

SESSION_BREAK_S: Final = 1800.0
WINDOW: Final = 64
_TIMES: Final = 256  # of the newest events
_GAPS: Final = 15
_YOUNG_EVENTS: Final = 10
_YOUNG_S: Final = 6 * HOUR
_RATE: Final = 0.1  # of the running mean of gaps
_COMPANY: Final = 400  # others remembered; above it the less seen half is forgotten


class Session:
    """What a user did since the last long rest."""

    __slots__ = ("fresh_groups", "groups", "items", "n", "since_s", "slots")

    def __init__(self, at_s: float) -> None:
        self.since_s = at_s
        self.n = self.fresh_groups = 0
        self.items: set[int] = set()
        self.groups: set[int] = set()
        self.slots = [0] * SLOTS


class Shopper:
    __slots__ = (
        "carried", "company", "gap", "gap_mean", "gap_variance", "gaps", "group_at", "group_top",
        "groups", "hours", "item_at", "item_did", "item_top", "items", "known_groups", "last",
        "last_s", "n", "number", "runs", "session", "sessions", "since_s", "slots", "step_run",
        "times", "values", "window_groups", "window_items", "window_slots",
    )  # fmt: skip

    def __init__(self, number: int, at_s: float, values: int) -> None:
        self.number = number
        self.since_s = self.last_s = at_s
        self.n = self.sessions = 0
        self.last: Act | None = None
        self.gap = NAN  # log(1 + s) from the last event to the one that arrives
        self.gaps: deque[float] = deque(maxlen=_GAPS)
        self.gap_mean, self.gap_variance = 4.0, 4.0
        self.times: list[float] = []  # ascending
        self.hours = [0] * 24
        self.slots = [0] * SLOTS
        self.items: dict[int, int] = {}  # times seen
        self.item_at: dict[int, float] = {}  # last seen
        self.item_did: dict[int, int] = {}  # bits: the types done to it
        self.groups: dict[int, int] = {}
        self.group_at: dict[int, float] = {}
        self.known_groups: dict[int, int] = {}  # sessions before this one that had the group
        self.item_top = self.group_top = 0
        self.window_items: deque[int] = deque(maxlen=WINDOW)
        self.window_groups: deque[int] = deque(maxlen=WINDOW)
        self.window_slots: deque[int] = deque(maxlen=WINDOW)
        self.runs = [0, 0, 0]  # of one item, one group, one type, up to the event that arrives
        self.session = Session(at_s)
        self.company: Counter[int] = Counter()  # other users: items shared with them
        self.step_run = 0  # steps in a row that others took before
        self.carried: list[float] = []  # running means of what the site says of the user's events
        self.values = [[0.0, 0.0] for _ in range(values)]  # running mean, number of values

    def young(self, at_s: float) -> bool:
        return self.n < _YOUNG_EVENTS and at_s - self.since_s < _YOUNG_S

    def arrive(self, act: Act) -> None:
        """What the time and fields of an event say before it is counted: gap, session, runs."""
        last = self.last
        rest_s = max(0.0, act.at_s - self.last_s)
        self.gap = math.log1p(rest_s) if last is not None else NAN
        if last is None or rest_s > SESSION_BREAK_S:
            for group in self.session.groups:
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
            self.gaps.append(self.gap)
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
            seen = self.items[item] = self.items.get(item, 0) + 1
            self.item_top = max(self.item_top, seen)
            self.item_at[item] = at_s
            self.item_did[item] = self.item_did.get(item, 0) | 1 << slot
            session.items.add(item)
        if group:
            if self.n and group not in self.groups:
                session.fresh_groups += 1
            seen = self.groups[group] = self.groups.get(group, 0) + 1
            self.group_top = max(self.group_top, seen)
            self.group_at[group] = at_s
            session.groups.add(group)
        session.n += 1
        session.slots[slot] += 1
        self.window_items.append(item)
        self.window_groups.append(group)
        self.window_slots.append(slot)
        self.n += 1
        self.last = act

    def met(self, others: list[int]) -> None:
        """Others were on an item that the user came to for the first time."""
        self.company.update(others)
        if len(self.company) > _COMPANY:
            self.company = Counter(dict(self.company.most_common(_COMPANY // 2)))
