"""What the site sees of an item, or of a group of items: bursts, and by whom."""

from __future__ import annotations

import math
from math import log, log1p
from typing import Final

from msgspec import Struct, field

from models.counters.act import DAY, HOUR, MINUTE, NAN, SLOTS, Act
from models.counters.shopper import Shopper

_SPANS_S: Final = (MINUTE, 600.0, HOUR, DAY, 3 * DAY)
_OF_SPAN: Final = (0, 1, 2, 3, 4, 2, 3, 2, 3, 2, 3, *(3,) * SLOTS, *(2,) * SLOTS)
_ALL, _USERS, _YOUNG, _ENTRIES, _SLOTS_D = 0, 5, 7, 9, 11
_SLOTS_H: Final = _SLOTS_D + SLOTS
_FAR: Final = 12.0  # spans after which nothing is left
_VISITS: Final = 12


class Visit(Struct, array_like=True, gc=False):
    """A user came to a thing; repeated events in a row are one visit."""

    user: int
    at_s: float
    experience: float  # log(1 + events before)
    slot: int
    entered: bool  # began a session with it


class Thing(Struct, array_like=True, gc=False):
    """Decaying counts, and the newest visits."""

    at_s: float
    counts: list[float] = field(default_factory=lambda: [0.0] * len(_OF_SPAN))
    last_s: float = NAN
    n: int = 0
    visits: list[Visit] = field(default_factory=list)
    left: int = 0  # steps from it to another one

    def decay(self, at_s: float) -> list[float]:
        """The counts as of now, and from now on."""
        past_s = at_s - self.at_s
        if past_s > 0:
            left = [math.exp(-past_s / s) if past_s < _FAR * s else 0.0 for s in _SPANS_S]
            self.counts = [
                count * left[span] for count, span in zip(self.counts, _OF_SPAN, strict=True)
            ]
            self.at_s = at_s
        return self.counts

    def add(self, act: Act, user: Shopper, before_s: float) -> None:
        """Count the event; the user, who was here last at `before_s`, does not hold it yet."""
        counts = self.decay(act.at_s)
        for span in range(len(_SPANS_S)):
            counts[_ALL + span] += 1
        if not act.at_s - before_s <= DAY:  # or never
            counts[_USERS] += 1
            counts[_USERS + 1] += 1
        if user.young(act.at_s):
            counts[_YOUNG] += 1
            counts[_YOUNG + 1] += 1
        entered = user.session.n == 0
        if entered:
            counts[_ENTRIES] += 1
            counts[_ENTRIES + 1] += 1
        counts[_SLOTS_D + act.slot] += 1
        counts[_SLOTS_H + act.slot] += 1
        self.last_s = act.at_s
        self.n += 1
        if not self.visits or self.visits[-1].user != act.user:
            self.visits.append(Visit(act.user, act.at_s, log1p(user.n), act.slot, entered))
            if len(self.visits) > _VISITS:
                del self.visits[0]


class Step(Struct, array_like=True, gc=False):
    """From one item to another."""

    times: int  # by users who did not take it just before
    user: int  # who took it last
    at_s: float
    gap: float


class Item(Thing, array_like=True, gc=False):
    steps: dict[int, Step] = field(default_factory=dict)
    newest: list[float] = field(default_factory=list)  # its values


class Group(Thing, array_like=True, gc=False):
    steps: dict[int, int] = field(default_factory=dict)  # to another one, how often
    means: list[list[float]] = field(default_factory=list)  # of values: mean, number


def names(thing: str) -> tuple[str, ...]:
    told = (
        "in 1 min", "in 10 min", "in 1 h", "in 1 d", "in 3 d", "users in 1 h", "users in 1 d",
        "young in 1 h", "young in 1 d", "entries in 1 h",
        "repeated", "burst of 1 h", "burst of 10 min", "burst of users", "young share",
        "entry share", "rest", "events", "own type in 1 h", "own type share", "own type burst",
        *(f"type {k} share" for k in range(1, SLOTS + 1)), "own share",
    )  # fmt: skip
    return tuple(f"{thing} {told_}" for told_ in told)


_WIDTH: Final = len(names(""))


def look(thing: Thing | None, act: Act) -> list[float]:
    """How busy a thing is, as of an event that is not counted yet; None if the event has none."""
    if thing is None:
        return [NAN] * _WIDTH
    c = thing.decay(act.at_s)
    _, ten, hour, day, three = c[_ALL:_USERS]
    users_h, users_d, young_h, young_d, entries_h, entries_d = c[_USERS:_SLOTS_D]
    own_d, own_h = c[_SLOTS_D + act.slot], c[_SLOTS_H + act.slot]
    found = [log1p(x) for x in (*c[_ALL:_USERS], users_h, users_d, young_h, young_d, entries_h)]
    found += [
        log((day + 0.5) / (users_d + 0.5)),
        log((hour + 0.1) / (three / 72 + 0.1)),
        log((ten + 0.1) / (day / 144 + 0.1)),
        log((users_h + 0.1) / (users_d / 24 + 0.1)),
        (young_d + 0.1) / (day + 1),
        (entries_d + 0.1) / (day + 1),
        log1p(max(0.0, act.at_s - thing.last_s)) if thing.n else NAN,
        log1p(thing.n),
        log1p(own_h),
        log((own_d + 0.1) / (day + 1)),
        log((own_h + 0.1) / (own_d / 24 + 0.1)),
    ]
    found += [(c[_SLOTS_D + k] + 0.05) / (day + 1) for k in range(SLOTS)]
    mine = sum(visit.user == act.user for visit in thing.visits)
    found.append(mine / len(thing.visits) if thing.visits else NAN)
    return found
