"""Who else was there: the users behind an item's visits, and the same steps taken by others."""

from __future__ import annotations

import math
from math import log, log1p
from typing import Final

from models.counters.act import DAY, HOUR, NAN, Act
from models.counters.shopper import Shopper
from models.counters.things import Thing

_NEW: Final = 2.4  # log(1 + events) of an account that did little yet

VISITOR_NAMES: Final = (
    "visitors in 1 d", "visitors in 1 h", "visitors' experience", "visitors' least experience",
    "visitors' age", "births near", "births spread", "visitors' gaps", "visitors' gaps spread",
    "visitors' gaps near", "visits spread", "visitors on item", "visitors' variety",
    "visitors enter", "visitors' own type", "visitors alike now",
    "shared most", "shared twice", "shared share", "shared young", "shared mean",
)  # fmt: skip
STEP_NAMES: Final = (
    "step taken", "step age", "step gap near", "step share", "run of steps",
    "group step taken", "step back",
)  # fmt: skip


def look(thing: Thing | None, act: Act, user: Shopper) -> list[float]:
    """The other users of the newest visits to the event's item."""
    if thing is None:
        return [NAN] * len(VISITOR_NAMES)
    at_s = act.at_s
    others = [v for v in thing.visits if v.user is not user]
    recent = [v for v in others if at_s - v.at_s < DAY]
    company = user.company
    shared = [company.get(v.user.number, 0) + 1 for v in others]
    found = [log1p(len(recent)), log1p(sum(at_s - v.at_s < HOUR for v in others))]
    if recent:
        n = len(recent)
        births = [log1p(abs(v.user.since_s - user.since_s)) for v in recent]
        gaps = [v.user.gap_mean for v in recent]
        gap, own_gap = sum(gaps) / n, user.gap_mean
        visits = sorted(v.at_s for v in recent)
        between = [log1p(b - a) for a, b in zip(visits, [*visits[1:], at_s], strict=True) if b >= a]
        found += [
            sum(v.experience for v in recent) / n,
            min(v.experience for v in recent),
            log1p(max(0.0, at_s - sum(v.user.since_s for v in recent) / n)),
            min(births),
            _spread(births) if n > 2 else NAN,
            gap,
            _spread(gaps) if n > 2 else NAN,
            abs(gap - own_gap) if user.n else NAN,
            _spread(between) if len(between) > 2 else NAN,
            sum(v.user.items.get(act.item, 0) / v.user.n for v in recent) / n,
            sum(len(v.user.items) / v.user.n for v in recent) / n,
            sum(v.entered for v in recent) / n,
            sum(v.slot == act.slot for v in recent) / n,
            sum(at_s - v.user.last_s < HOUR for v in recent) / n,
        ]
    else:
        found += [NAN] * 14
    most = max(shared, default=0)
    found += [
        log1p(most - 1) if shared else 0.0,
        log1p(sum(x >= 2 for x in shared)),
        most / (min(user.n, 200) + 1),
        log1p(sum(v.experience < _NEW for v in recent)),
        sum(shared) / len(shared) if shared else NAN,
    ]
    return found


def meet(thing: Thing, act: Act, user: Shopper) -> None:
    """Note whom the user meets on an item that is new to them. Before either is counted."""
    if act.item not in user.items:
        user.met([v.user.number for v in thing.visits if v.user is not user])


class Steps:
    """Steps from one item, or group, to the next: has another user taken them?"""

    def __init__(self) -> None:
        self._taken: dict[tuple[int, int], tuple[int, int, float, float]] = {}
        self._groups: dict[tuple[int, int], int] = {}
        self._left: dict[int, int] = {}
        self._groups_left: dict[int, int] = {}

    def look(self, act: Act, user: Shopper) -> tuple[list[float], float]:
        """The numbers of `STEP_NAMES`, and how unlikely the step between groups is, in nats."""
        last = user.last
        if last is None:
            return [NAN] * len(STEP_NAMES), NAN
        found = [0.0, NAN, NAN, NAN, NAN]
        if act.item and last.item and act.item != last.item:
            times, who, when_s, gap = self._taken.get((last.item, act.item), (0, -1, 0.0, NAN))
            by_others = times > 1 or (times == 1 and who != user.number)
            user.step_run = user.step_run + 1 if by_others else 0
            if by_others:
                times -= who == user.number
                found = [log1p(times), log1p(max(0.0, act.at_s - when_s)), abs(user.gap - gap)]
                found.append(times / (self._left.get(last.item, 0) + 1))
            else:
                found = [0.0, NAN, NAN, 0.0]
            found.append(log1p(user.step_run))
        nats = NAN
        taken = 0
        if act.group and last.group and act.group != last.group:
            taken = self._groups.get((last.group, act.group), 0)
            nats = -log((taken + 0.1) / (self._groups_left.get(last.group, 0) + 10))
        found.append(log1p(taken))
        found.append(float(len(user.window_items) > 1 and user.window_items[-2] == act.item))
        return found, nats

    def add(self, act: Act, user: Shopper) -> None:
        last = user.last
        if last is None:
            return
        if act.item and last.item and act.item != last.item:
            key = (last.item, act.item)
            times, who, _, _ = self._taken.get(key, (0, -1, 0.0, NAN))
            self._taken[key] = (times + (who != user.number), user.number, act.at_s, user.gap)
            self._left[last.item] = self._left.get(last.item, 0) + 1
        if act.group and last.group and act.group != last.group:
            pair = (last.group, act.group)
            self._groups[pair] = self._groups.get(pair, 0) + 1
            self._groups_left[last.group] = self._groups_left.get(last.group, 0) + 1


def _spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
