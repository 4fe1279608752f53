"""What a first look said of EARLIER events: of the user's own, and of others' beside them.

Strictly causal: the numbers of an event do not know its own score, nor a later one. Others' events
leave out the user's own part.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.baselines.detector import Judged
from models.counters.act import DAY, HOUR, NAN, Act, acts, streams
from models.dataset import Dataset

_RATES: Final = (0.3, 0.08)  # of the running means of a user
_FADES: Final = 0.98  # the user's highest score, an event
_LEAST: Final = 1e-3  # events; fewer left are none
_VISITS: Final = 12
_EDGE: Final = 1e-4

NAMES: Final = (
    "look now", "user's last", "user's mean, short", "user's mean, long", "user's highest",
    "user's mean", "user's mean in session",
    "item's mean", "item's highest", "item's events", "item's mean in 1 h",
    "visitors' mean", "visitors' highest", "visitors suspect",
    "group's mean", "group's events", "site's mean",
)  # fmt: skip


class _Own(Struct):
    """What was said of a user."""

    last: float
    short: float
    long: float
    highest: float
    total: float
    count: int
    last_s: float
    session_total: float
    session_count: int


class _Part(Struct):
    """A decayed sum of scores and of events."""

    total: float = 0.0
    events: float = 0.0
    at_s: float = -math.inf

    def decayed(self, at_s: float, span_s: float) -> tuple[float, float]:
        left = math.exp(-max(0.0, at_s - self.at_s) / span_s)
        return self.total * left, self.events * left

    def add(self, score: float, at_s: float, span_s: float) -> None:
        total, events = self.decayed(at_s, span_s)
        self.total, self.events, self.at_s = total + score, events + 1, max(at_s, self.at_s)


class _Place:
    """What was said of all events at an item or a group, and each user's part of it."""

    __slots__ = ("all", "of", "span_s")

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self.all = _Part()
        self.of: dict[int, _Part] = {}

    def others(self, user: int, at_s: float) -> tuple[float, float]:
        """Mean score of others' events (NaN if there are none), and log(1 + events)."""
        total, events = self.all.decayed(at_s, self.span_s)
        own = self.of.get(user)
        if own is not None:
            own_total, own_events = own.decayed(at_s, self.span_s)
            total, events = total - own_total, events - own_events
        return (total / events if events > _LEAST else NAN), math.log1p(max(events, 0.0))

    def add(self, user: int, score: float, at_s: float) -> None:
        self.all.add(score, at_s, self.span_s)
        self.of.setdefault(user, _Part()).add(score, at_s, self.span_s)


def look_back(data: Dataset, logits: Judged) -> NDArray[np.float32]:
    """(events, NAMES). `logits` (events,): the first look at every event of `data`."""
    edge = math.log(_EDGE / (1 - _EDGE))
    clipped = np.clip(logits, edge, -edge)
    scores = 1 / (1 + np.exp(-clipped))
    found = np.full((len(data), len(NAMES)), np.nan, np.float32)
    for part in streams(data):
        look = _Looks()
        told = zip(acts(data, part), clipped[part].tolist(), scores[part].tolist(), strict=True)
        for at, (act, logit, score) in enumerate(told, part.start):
            found[at] = [logit, *look.at(act)]
            look.add(act, score)
    return found


class _Looks:
    def __init__(self) -> None:
        self._users: dict[int, _Own] = {}
        self._items: dict[int, _Place] = {}
        self._items_h: dict[int, _Place] = {}
        self._groups: dict[int, _Place] = {}
        self._visits: dict[int, deque[tuple[int, float]]] = {}
        self._site = _Part()

    def at(self, act: Act) -> list[float]:
        user, at_s = act.user, act.at_s
        own = self._users.get(user)
        if own is None:
            found = [NAN] * 6
        else:
            found = [own.last, own.short, own.long, own.highest, own.total / own.count]
            fresh = at_s - own.last_s > HOUR / 2
            found.append(NAN if fresh else own.session_total / own.session_count)
        item = self._items.get(act.item)
        visits = self._visits.get(act.item, ())
        others = [(who, said) for who, said in visits if who != user]
        mean, events = item.others(user, at_s) if item else (NAN, NAN)
        found += [mean, max((said for _, said in others), default=NAN), events]
        hour = self._items_h.get(act.item)
        found.append(hour.others(user, at_s)[0] if hour else NAN)
        now = [self._users[who].short for who in {who for who, _ in others}]
        if now:
            found += [sum(now) / len(now), max(now), math.log1p(sum(x > 0.5 for x in now))]
        else:
            found += [NAN, NAN, NAN]
        group = self._groups.get(act.group)
        found += group.others(user, at_s) if group else (NAN, NAN)
        total, count = self._site.decayed(at_s, HOUR)
        found.append(total / (count + 1e-6))
        return found

    def add(self, act: Act, score: float) -> None:
        user, at_s = act.user, act.at_s
        self._site.add(score, at_s, HOUR)
        own = self._users.get(user)
        if own is None:
            self._users[user] = _Own(score, score, score, score, score, 1, at_s, score, 1)
        else:
            if at_s - own.last_s > HOUR / 2:
                own.session_total, own.session_count = 0.0, 0
            own.session_total += score
            own.session_count += 1
            own.last = score
            own.short += _RATES[0] * (score - own.short)
            own.long += _RATES[1] * (score - own.long)
            own.highest = max(own.highest * _FADES, score)
            own.total += score
            own.count += 1
            own.last_s = max(own.last_s, at_s)
        if act.item:
            self._items.setdefault(act.item, _Place(DAY)).add(user, score, at_s)
            self._items_h.setdefault(act.item, _Place(HOUR)).add(user, score, at_s)
            self._visits.setdefault(act.item, deque(maxlen=_VISITS)).append((user, score))
        if act.group:
            self._groups.setdefault(act.group, _Place(HOUR)).add(user, score, at_s)
