"""The independent simulator's look-alikes: honest people who may seem to attack.

Each kind returns `size` acts, with pauses and moments taken from the real events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from scripts.study.independent_shop import FROM_S, Act, Draw, Step, Visit
from scripts.study.splits import DAY_S


def flash_sale(draw: Draw, size: int) -> list[Act]:
    """A price falls for half an hour, and who hears of it comes."""
    item, opens_s = draw.middling(), draw.start() // 1800 * 1800
    acts: list[Act] = []
    while len(acts) < size:
        steps = [Step("browse", item)]
        steps += [Step("browse", draw.sibling(item))] if draw.chance(0.25) else []
        steps += [Step("cart", item)] if draw.chance(0.4) else []
        steps += [Step("purchase", item)] if draw.chance(0.4) else []
        acts += _at(draw, _person(draw), steps, opens_s + float(draw.rng.exponential(600)))
    return acts[:size]


def viral_item(draw: Draw, size: int) -> list[Act]:
    """Somebody famous shows an item; the crowd swells and fades over hours."""
    item, shown_s = draw.target("medium"), draw.start()
    acts: list[Act] = []
    while len(acts) < size:
        steps = [Step("browse", item)]
        steps += [Step("favourite", item)] if draw.chance(0.15) else []
        if draw.chance(0.3):
            steps = draw.like_real(2)[0] + steps
        acts += _at(draw, _person(draw), steps, shown_s + float(draw.rng.gamma(2.0, 5000)))
    return acts[:size]


def group_order(draw: Draw, size: int) -> list[Act]:
    """Friends get a better price together: a link in a chat, and all order within the hour."""
    acts: list[Act] = []
    while len(acts) < size:
        item, sent_s = draw.target("medium"), draw.start()
        for _ in range(draw.between(3, 8)):
            steps = [Step("browse", item)] * draw.between(1, 2)
            steps += [Step("purchase", item)] if draw.chance(0.75) else []
            acts += _at(draw, _person(draw), steps, sent_s + float(draw.rng.exponential(1200)))
    return acts[:size]


def shared_household(draw: Draw, size: int) -> list[Act]:
    """Two people on one account: the other one's sitting falls into the owner's."""
    user = draw.regular(old=False)
    acts: list[Act] = []
    while len(acts) < size:
        steps, gaps = draw.like_real(min(size, draw.between(4, 10)))
        at_s = draw.riding(user)
        acts += draw.acts(Visit(user, steps), draw.start() if at_s is None else at_s, gaps)
    return acts[:size]


def wholesale_buyer(draw: Draw, size: int) -> list[Act]:
    """Buys for a shop or an office: much of one category, and the same again."""
    user, first = draw.regular(old=False), draw.middling()
    goods = [first, *draw.siblings(first, draw.between(2, 5))]
    acts: list[Act] = []
    while len(acts) < size:
        chosen = draw.some(goods, draw.between(2, 4))
        steps = [s for item in chosen for s in (Step("browse", item), Step("cart", item))]
        steps += [Step("purchase", draw.pick(chosen)) for _ in range(draw.between(2, 5))]
        acts += _at(draw, user, steps, draw.start())
    return acts[:size]


def power_user(draw: Draw, size: int) -> list[Act]:
    """Looks at things for hours, quickly, over many shelves."""
    user, at_s = draw.regular(old=False), draw.start()
    steps: list[Step] = []
    while len(steps) < size:
        steps += draw.like_real(8)[0]
    gaps = [min(gap, 90.0) for gap in draw.pauses(size)]
    return draw.acts(Visit(user, steps[:size]), at_s, gaps)


def price_comparer(draw: Draw, size: int) -> list[Act]:
    """Goes back and forth between a few of a kind, sleeps over it, looks again."""
    user, first = draw.regular(old=False), draw.middling()
    few = [first, *draw.siblings(first, draw.between(2, 5))]
    acts: list[Act] = []
    while len(acts) < size:
        steps = [Step("browse", draw.pick(few)) for _ in range(draw.between(4, 9))]
        steps += [Step("cart", draw.pick(few))] if draw.chance(0.3) else []
        acts += _at(draw, user, steps, draw.start())
    return acts[:size]


def new_phone(draw: Draw, size: int) -> list[Act]:
    """A known person under a new account finds their things again."""
    past = draw.owner_items(draw.regular())
    user, at_s = draw.newcomer(), draw.start()
    steps: list[Step] = []
    while len(steps) < size:
        item = draw.pick(past) if draw.chance(0.6) else draw.sibling(draw.pick(past))
        steps.append(Step("browse", item))
        if draw.chance(0.25):
            steps.append(Step("cart" if draw.chance(0.6) else "favourite", item))
    return _at(draw, user, steps[:size], at_s)


def cart_clearing(draw: Draw, size: int) -> list[Act]:
    """Pay day: fills the basket and orders all of it at once."""
    acts: list[Act] = []
    while len(acts) < size:
        user = draw.regular(old=False)
        past = draw.owner_items(user)
        items = [draw.sibling(draw.pick(past)) for _ in range(draw.between(3, 7))]
        steps = [Step("cart", item) for item in items]
        gaps = [min(gap, 120.0) for gap in draw.pauses(len(items))]
        steps += [Step("purchase", item) for item in items]
        gaps += [float(draw.between(0, 4)) for _ in items]
        acts += draw.acts(Visit(user, steps), draw.start(), gaps)
    return acts[:size]


def habit_checker(draw: Draw, size: int) -> list[Act]:
    """Waits for a parcel or a price, and looks at the same page at about the same distance."""
    acts: list[Act] = []
    while len(acts) < size:
        every_s = float(draw.pick([1800.0, 2700.0, 3600.0]))
        gaps = [draw.near(every_s, 0.12) for _ in range(draw.between(6, 12))]
        visit = Visit(draw.regular(old=False), [Step("browse", draw.middling())] * len(gaps))
        rises_s = FROM_S + draw.between(0, 1) * DAY_S + float(draw.rng.uniform(7, 12)) * 3600
        acts += draw.acts(visit, rises_s, gaps)
    return acts[:size]


def wish_list(draw: Draw, size: int) -> list[Act]:
    """Collects ideas for a wedding or a flat: one favourite after the other."""
    acts: list[Act] = []
    while len(acts) < size:
        user, first = draw.regular(old=False), draw.middling()
        steps: list[Step] = []
        for item in draw.siblings(first, draw.between(4, 10)):
            steps += [Step("browse", item)] if draw.chance(0.6) else []
            steps.append(Step("favourite", item))
        acts += _at(draw, user, steps, draw.start())
    return acts[:size]


LookAlike = Callable[[Draw, int], list[Act]]
LOOK_ALIKES: Final[dict[str, LookAlike]] = {
    kind.__name__: kind
    for kind in (
        flash_sale,
        viral_item,
        group_order,
        shared_household,
        wholesale_buyer,
        power_user,
        price_comparer,
        new_phone,
        cart_clearing,
        habit_checker,
        wish_list,
    )
}


def _person(draw: Draw) -> str:
    """One of a crowd: mostly people that the shop has seen."""
    return draw.newcomer() if draw.chance(0.2) else draw.regular(old=False)


def _at(draw: Draw, user: str, steps: list[Step], at_s: float) -> list[Act]:
    return draw.acts(Visit(user, steps), at_s, draw.pauses(len(steps)))
