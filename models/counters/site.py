"""The site as a whole: how busy it is, usual types and values, further categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import log, log1p
from typing import Final

from models.counters.act import DAY, HOUR, MINUTE, NAN, SLOTS, Act, Fields
from models.counters.shopper import Shopper

_SPANS_S: Final = (MINUTE, 600.0, HOUR, DAY)
_VALUES: Final = 200.0  # of which a running mean tells
_OTHERS: Final = 3  # further categories that are read
_NUMBERS: Final = 6  # values that are compared

SITE_NAMES: Final = (
    "site burst of 1 min", "site burst of 10 min", "site burst of 1 h", "site young", "site new",
    "type burst", "step between types",
)  # fmt: skip


class Decayed:
    """Counts of one thing that forget with several speeds."""

    __slots__ = ("at_s", "counts", "spans_s")

    def __init__(self, spans_s: Sequence[float]) -> None:
        self.spans_s = spans_s
        self.counts = [0.0] * len(spans_s)
        self.at_s = -math.inf

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


class Site:
    """Rates of all events, of young users', of newcomers', of each type."""

    def __init__(self) -> None:
        self._all = Decayed(_SPANS_S)
        self._young = Decayed((HOUR,))
        self._new = Decayed((HOUR, DAY))
        self._slots = [Decayed((HOUR, DAY)) for _ in range(SLOTS)]
        self._steps = [[0] * SLOTS for _ in range(SLOTS + 1)]

    def look(self, act: Act, user: Shopper) -> list[float]:
        at_s = act.at_s
        minute, ten, hour, day = self._all.decay(at_s)
        (young,) = self._young.decay(at_s)
        new, new_day = self._new.decay(at_s)
        own, own_day = self._slots[act.slot].decay(at_s)
        steps = self._steps[_from(user)]
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
        self._all.add(act.at_s)
        self._slots[act.slot].add(act.at_s)
        if user.young(act.at_s):
            self._young.add(act.at_s)
        if not user.n:
            self._new.add(act.at_s)
        self._steps[_from(user)][act.slot] += 1


class Values:
    """Amounts, ranks and further categories: against the site, the group and the user's own."""

    def __init__(self, fields: Fields) -> None:
        numbers = (*fields.amounts, *fields.ordinals)
        self._numbers, self._bare = numbers[:_NUMBERS], numbers[_NUMBERS:]
        self._others = fields.categories[2 : 2 + _OTHERS]
        self._means: list[dict[int, list[float]]] = [{} for _ in self._numbers]
        self._of_item: list[dict[int, float]] = [{} for _ in self._numbers]
        self._rates: list[dict[int, Decayed]] = [{} for _ in self._others]
        self._seen: list[dict[tuple[int, int], int]] = [{} for _ in self._others]
        self._users: list[dict[int, int]] = [{} for _ in self._others]

    @property
    def width(self) -> int:
        return len(self._numbers)

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

    def look(self, act: Act, user: Shopper) -> list[float]:
        found: list[float] = []
        for at, value in enumerate(act.values[:_NUMBERS]):
            usual = self._means[at].get(act.group)
            own_mean, own_count = user.values[at]
            found += [
                value,
                value - usual[0] if usual else NAN,
                value - own_mean if own_count else NAN,
                value - self._of_item[at].get(act.item, NAN),
            ]
        found += act.values[_NUMBERS:]
        for at, other in enumerate(act.others[:_OTHERS]):
            if not other:
                found += [0.0, NAN, NAN, NAN, NAN, NAN]
                continue
            seen = self._seen[at].get((act.user, other), 0)
            rate = self._rates[at].get(other)
            hour, day = rate.decay(act.at_s) if rate else (0.0, 0.0)
            same = user.last is not None and user.last.others[at] == other
            found += [1.0, log1p(seen), float(same), log1p(hour), log1p(day)]
            found.append(log1p(self._users[at].get(other, 0)))
        return found

    def add(self, act: Act, user: Shopper) -> None:
        for at, value in enumerate(act.values[:_NUMBERS]):
            if math.isfinite(value):
                _towards(self._means[at].setdefault(act.group, [0.0, 0.0]), value)
                _towards(user.values[at], value)
                self._of_item[at][act.item] = value
        for at, other in enumerate(act.others[:_OTHERS]):
            if other:
                self._rates[at].setdefault(other, Decayed((HOUR, DAY))).add(act.at_s)
                pair = (act.user, other)
                seen = self._seen[at][pair] = self._seen[at].get(pair, 0) + 1
                if seen == 1:
                    self._users[at][other] = self._users[at].get(other, 0) + 1


def _from(user: Shopper) -> int:
    return user.last.slot if user.last is not None else SLOTS


def _towards(mean: list[float], value: float) -> None:
    mean[1] += 1
    mean[0] += (value - mean[0]) / min(mean[1], _VALUES)
