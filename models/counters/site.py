"""The site as a whole: how busy it is, usual types and values, further categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import log, log1p
from typing import Final

from msgspec import Struct, field

from models.counters.act import DAY, HOUR, MINUTE, NAN, SLOTS, Act, Clock, Fields
from models.counters.keep import FORGET_S, keep
from models.counters.shopper import Shopper
from models.counters.things import Group, Item

_SPANS_S: Final = (MINUTE, 600.0, HOUR, DAY)
_VALUES: Final = 200.0  # of which a running mean tells
_OTHERS: Final = 3  # further categories that are read
_NUMBERS: Final = 6  # values that are compared

SITE_NAMES: Final = (
    "site burst of 1 min", "site burst of 10 min", "site burst of 1 h", "site young", "site new",
    "type burst", "step between types",
)  # fmt: skip


class Decayed(Struct, array_like=True, gc=False):
    """Counts of one thing that forget with several speeds."""

    spans_s: tuple[float, ...]
    counts: list[float]
    at_s: float = -math.inf

    @classmethod
    def over(cls, *spans_s: float) -> Decayed:
        return cls(spans_s, [0.0] * len(spans_s))

    def decay(self, at_s: float) -> list[float]:
        past_s = at_s - self.at_s
        if past_s > 0:
            self.counts = [
                c * math.exp(-past_s / s) if past_s < 12 * s else 0.0
                for c, s in zip(self.counts, self.spans_s, strict=True)
            ]
            self.at_s = at_s
        return self.counts

    def add(self, at_s: float) -> None:
        self.counts = [c + 1 for c in self.decay(at_s)]


def _own() -> Decayed:
    return Decayed.over(HOUR, DAY)


class Site(Struct, array_like=True, gc=False):
    """Rates of all events, of young users', of newcomers', of each type; values of no thing."""

    clock: Clock = field(default_factory=Clock)
    all: Decayed = field(default_factory=lambda: Decayed.over(*_SPANS_S))
    young: Decayed = field(default_factory=lambda: Decayed.over(HOUR))
    new: Decayed = field(default_factory=_own)
    slots: list[Decayed] = field(default_factory=lambda: [_own() for _ in range(SLOTS)])
    steps: list[list[int]] = field(default_factory=lambda: [[0] * SLOTS for _ in range(SLOTS + 1)])
    item: Item = field(default_factory=lambda: Item(0.0))  # of events without one: values alone
    group: Group = field(default_factory=lambda: Group(0.0))

    def look(self, act: Act, user: Shopper) -> list[float]:
        at_s = act.at_s
        minute, ten, hour, day = self.all.decay(at_s)
        (young,) = self.young.decay(at_s)
        new, new_day = self.new.decay(at_s)
        own, own_day = self.slots[act.slot].decay(at_s)
        steps = self.steps[_from(user)]
        return [
            log((minute + 1) / (hour / 60 + 1)),
            log((ten + 1) / (day / 144 + 1)),
            log((hour + 1) / (day / 24 + 1)),
            log((young + 1) / (hour + 5)),
            log((new + 1) / (new_day / 24 + 1)),
            log((own + 1) / (hour + 5)) - log((own_day + 1) / (day + 5)),
            -log((steps[act.slot] + 0.5) / (sum(steps) + 4)),
        ]

    def add(self, act: Act, user: Shopper) -> None:
        self.all.add(act.at_s)
        self.slots[act.slot].add(act.at_s)
        if user.young(act.at_s):
            self.young.add(act.at_s)
        if not user.n:
            self.new.add(act.at_s)
        self.steps[_from(user)][act.slot] += 1


class Further(Struct, array_like=True, gc=False):
    """What is known of one further category: events, users."""

    rate: Decayed = field(default_factory=_own)
    users: int = 0


_UNKNOWN: Final = Further()
Others = Sequence[dict[int, Further]]  # by position


class Values:
    """Amounts, ranks and further categories: against the site, the group and the user's own."""

    def __init__(self, fields: Fields) -> None:
        numbers = (*fields.amounts, *fields.ordinals)
        self._numbers, self._bare = numbers[:_NUMBERS], numbers[_NUMBERS:]
        self._others = fields.categories[2 : 2 + _OTHERS]
        self.width, self.further = len(self._numbers), len(self._others)

    @property
    def names(self) -> tuple[str, ...]:
        told = [
            f"{name} {what}"
            for name in self._numbers
            for what in ("itself", "for its group", "for the user", "for its item")
        ]
        told += [f"{name} itself" for name in self._bare]
        told += [
            f"{name} {what}"
            for name in self._others
            for what in ("given", "seen", "same", "in 1 h", "in 1 d", "users")
        ]
        return tuple(told)

    def look(
        self, act: Act, user: Shopper, item: Item, group: Group, others: Others
    ) -> list[float]:
        """Without an item or group, those that the site keeps for such events."""
        found: list[float] = []
        for at, value in enumerate(act.values[:_NUMBERS]):
            usual, count = group.means[at] if group.means else (NAN, 0)
            own_mean, own_count = user.values[at]
            found += [
                value,
                value - usual if count else NAN,
                value - own_mean if own_count else NAN,
                value - (item.newest[at] if item.newest else NAN),
            ]
        found += act.values[_NUMBERS:]
        for at, other in enumerate(act.others[:_OTHERS]):
            if not other:
                found += [0.0, NAN, NAN, NAN, NAN, NAN]
                continue
            seen = user.others[at].get(other, 0)
            known = _known(others[at], other, act.at_s) or _UNKNOWN
            hour, day = known.rate.decay(act.at_s) if known.users else (0.0, 0.0)
            same = user.last is not None and user.last.others[at] == other
            found += [1.0, log1p(seen), float(same), log1p(hour), log1p(day)]
            found.append(log1p(known.users))
        return found

    def add(self, act: Act, user: Shopper, item: Item, group: Group, others: Others) -> None:
        if not group.means:
            group.means = [[0.0, 0.0] for _ in self._numbers]
        if not item.newest:
            item.newest = [NAN] * self.width
        for at, value in enumerate(act.values[:_NUMBERS]):
            if math.isfinite(value):
                _towards(group.means[at], value)
                _towards(user.values[at], value)
                item.newest[at] = value
        for at, other in enumerate(act.others[:_OTHERS]):
            if other:
                own = user.others[at]
                known = _known(others[at], other, act.at_s)
                if known is None:
                    known = others[at][other] = Further(users=1)
                elif other not in own:
                    known.users += 1
                known.rate.add(act.at_s)
                if other not in own:
                    keep(own, float)  # the rarer half goes
                own[other] = own.get(other, 0) + 1


def _known(others: dict[int, Further], other: int, at_s: float) -> Further | None:
    """None if nobody came with it for long."""
    found = others.get(other)
    return None if found is None or at_s - found.rate.at_s > FORGET_S else found


def _from(user: Shopper) -> int:
    return user.last.slot if user.last is not None else SLOTS


def _towards(mean: list[float], value: float) -> None:
    mean[1] += 1
    mean[0] += (value - mean[0]) / min(mean[1], _VALUES)
