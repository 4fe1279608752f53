"""Who else was there: the users behind an item's visits, and the same steps taken by others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import log, log1p
from typing import Final

from models.counters.act import DAY, HOUR, NAN, Act
from models.counters.keep import STEPS, keep
from models.counters.shopper import NEVER, Shopper
from models.counters.things import Group, Item, Step

_UNTAKEN: Final = Step(0, -1, 0.0, NAN)
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


def look(item: Item | None, act: Act, user: Shopper, users: Mapping[int, Shopper]) -> list[float]:
    """The other users of the newest visits to the event's item; `users` has those of a day."""
    if item is None:
        return [NAN] * len(VISITOR_NAMES)
    at_s = act.at_s
    others = [v for v in item.visits if v.user != act.user]
    recent = [v for v in others if at_s - v.at_s < DAY and v.user in users]
    company = user.company
    shared = [company.get(v.user, 0) + 1 for v in others]
    found = [log1p(len(recent)), log1p(sum(at_s - v.at_s < HOUR for v in others))]
    if recent:
        n = len(recent)
        who = [users[v.user] for v in recent]
        births = [log1p(abs(w.since_s - user.since_s)) for w in who]
        gaps = [w.gap_mean for w in who]
        gap, own_gap = sum(gaps) / n, user.gap_mean
        visits = sorted(v.at_s for v in recent)
        between = [log1p(b - a) for a, b in zip(visits, [*visits[1:], at_s], strict=True) if b >= a]
        found += [
            sum(v.experience for v in recent) / n,
            min(v.experience for v in recent),
            log1p(max(0.0, at_s - sum(w.since_s for w in who) / n)),
            min(births),
            _spread(births) if n > 2 else NAN,
            gap,
            _spread(gaps) if n > 2 else NAN,
            abs(gap - own_gap) if user.n else NAN,
            _spread(between) if len(between) > 2 else NAN,
            sum(w.items.get(act.item, NEVER).times / w.n for w in who) / n,
            sum(len(w.items) / w.n for w in who) / n,
            sum(v.entered for v in recent) / n,
            sum(v.slot == act.slot for v in recent) / n,
            sum(at_s - w.last_s < HOUR for w in who) / n,
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


def meet(item: Item, act: Act, user: Shopper) -> None:
    """Note whom the user meets on an item that is new to them. Before either is counted."""
    if act.item not in user.items:
        user.met([v.user for v in item.visits if v.user != act.user])


def follow(
    item: Item | None, group: Group | None, act: Act, user: Shopper
) -> tuple[list[float], float]:
    """The numbers of `STEP_NAMES`, and how unlikely the step between groups is, in nats. The step
    goes from `item` and `group`, where the user was last.
    """
    last = user.last
    if last is None:
        return [NAN] * len(STEP_NAMES), NAN
    found = [0.0, NAN, NAN, NAN, NAN]
    if item is not None:
        step = item.steps.get(act.item, _UNTAKEN)
        times = step.times
        by_others = times > 1 or (times == 1 and step.user != act.user)
        user.step_run = user.step_run + 1 if by_others else 0
        if by_others:
            times -= step.user == act.user
            found = [log1p(times), log1p(max(0.0, act.at_s - step.at_s)), abs(user.gap - step.gap)]
            found.append(times / (item.left + 1))
        else:
            found = [0.0, NAN, NAN, 0.0]
        found.append(log1p(user.step_run))
    nats = NAN
    taken = 0
    if group is not None:
        taken = group.steps.get(act.group, 0)
        nats = -log((taken + 0.1) / (group.left + 10))
    found.append(log1p(taken))
    found.append(float(len(user.window_items) > 1 and user.window_items[-2] == act.item))
    return found, nats


def leave(item: Item | None, group: Group | None, act: Act, user: Shopper) -> None:
    """Count the step from where the user was last."""
    if item is not None:
        step = item.steps.get(act.item)
        if step is None:
            keep(item.steps, lambda one: one.at_s, STEPS)
            step = _UNTAKEN
        times = step.times + (step.user != act.user)
        item.steps[act.item] = Step(times, act.user, act.at_s, user.gap)
        item.left += 1
    if group is not None:
        if act.group not in group.steps:
            keep(group.steps, float, STEPS)  # the rarer half goes
        group.steps[act.group] = group.steps.get(act.group, 0) + 1
        group.left += 1


def _spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
