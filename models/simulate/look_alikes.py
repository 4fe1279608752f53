"""Honest behaviour that resembles an attack, and is labelled 0 with its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from models.simulate.raid import Part
from models.simulate.world import (
    CART,
    FAVOURITE,
    PURCHASE,
    Person,
    Script,
    Step,
    World,
)

MINUTE_MS: Final = 60_000.0


def _size(world: World, low: float, high: float) -> int:
    return round(world.dice.log_between(low, high))


def _anybody(world: World, newcomers: float) -> Person:
    return world.newcomer() if world.dice.chance(newcomers) else world.member()


def flash_sale(world: World) -> list[Part]:
    """A crowd on one item that is cheap for some minutes; many buy it at once."""
    dice, item = world.dice, world.popular_item()
    share = dice.between(0.5, 0.9)
    length_ms = dice.log_between(3, 40) * MINUTE_MS
    keen, newcomers = dice.between(0.2, 0.7), dice.between(0.1, 0.5)
    parts = []
    for _ in range(_size(world, 15, 120)):
        steps: list[Step] = []
        for _ in range(1 + dice.geometric(1.0)):
            steps += world.visit(item)
        if dice.chance(keen):
            if dice.chance(0.6):
                steps.append(world.act(CART, item))
            if dice.chance(0.6):
                steps.append(world.act(PURCHASE, item))
        steps = [_cheaper(step, item, share) for step in steps]
        person = _anybody(world, newcomers)
        if dice.chance(0.3):
            steps += world.ordinary(person, dice.whole(1, 8))
        parts.append(Part(person, steps, delay_ms=dice.exponential(length_ms / 2)))
    return parts


def _cheaper(step: Step, item: int, share: float) -> Step:
    if step.item != item:
        return step
    return Step(step.type, item, step.query, step.position, step.quantity, share, step.source)


def viral_link(world: World) -> list[Part]:
    """A link goes round: many people, most of them new, look at one item and leave."""
    dice, item = world.dice, world.any_item()
    length_ms = dice.log_between(10, 600) * MINUTE_MS
    parts = []
    for _ in range(_size(world, 10, 80)):
        steps: list[Step] = []
        for _ in range(1 + dice.geometric(0.7)):
            steps += world.visit(item)
        person = _anybody(world, 0.7)
        if dice.chance(0.2):
            steps += world.ordinary(person, dice.whole(1, 6))
        parts.append(Part(person, steps, delay_ms=dice.exponential(length_ms / 2)))
    return parts


def welcome_offer(world: World) -> list[Part]:
    """New customers who come through an advertisement and buy soon."""
    dice = world.dice
    pool = [world.popular_item() for _ in range(dice.whole(1, 8))]
    length_ms = dice.log_between(60, 1_200) * MINUTE_MS
    parts = []
    for _ in range(_size(world, 6, 40)):
        item = dice.pick(pool)
        person = world.newcomer()
        steps = world.visit(item)
        if dice.chance(0.4):
            steps += world.ordinary(person, dice.whole(1, 5))
        if dice.chance(0.5):
            steps.append(world.act(CART, item))
        steps.append(world.act(PURCHASE, item))
        parts.append(Part(person, steps, delay_ms=dice.uniform() * length_ms))
    return parts


def family(world: World) -> list[Part]:
    """Two or three people at once in one account, each with tastes of their own."""
    dice, owner = world.dice, world.member()
    parts = []
    for _ in range(dice.whole(2, 3)):
        steps = world.ordinary(world.newcomer(), dice.whole(5, 25))
        parts.append(Part(owner, steps, delay_ms=dice.uniform() * 20 * MINUTE_MS))
    return parts


def new_phone(world: World) -> list[Part]:
    """A person signs in anew, at times as somebody unknown, and opens again what they had open."""
    dice, owner = world.dice, world.member()
    person = Person(world.newcomer().user_id, owner.tastes) if dice.chance(0.5) else owner
    again = owner.seen[-dice.whole(4, 20) :] or [world.popular_item(c) for c in owner.tastes[:6]]
    steps: list[Step] = []
    for item in again:
        steps += world.visit(item)
        if dice.chance(0.2):
            steps.append(world.act(dice.pick((CART, FAVOURITE)), item))
    median_ms = dice.log_between(1_500, 12_000)
    gaps = [dice.log_normal(median_ms, 0.6) for _ in steps]
    later = world.ordinary(owner, dice.whole(3, 15))
    return [Part(person, steps + later, gaps + [world.gap_ms() for _ in later])]


def professional_buyer(world: World) -> list[Part]:
    """Buys for a business: one look each, many items, large quantities, quickly."""
    dice, person = world.dice, world.member()
    category = world.category_of(world.popular_item())
    median_ms = dice.log_between(2_500, 12_000)
    steps: list[Step] = []
    for _ in range(_size(world, 6, 30)):
        item = world.popular_item(category if dice.chance(0.8) else None)
        steps += world.visit(item)
        if dice.chance(0.7):
            steps.append(world.act(CART, item))
        if dice.chance(0.7):
            steps.append(world.act(PURCHASE, item, 1 + dice.geometric(6.0)))
    return [Part(person, steps, [dice.log_normal(median_ms, 0.4) for _ in steps])]


def holiday_spree(world: World) -> list[Part]:
    """Presents for everybody: many categories that the person never looked at, many purchases."""
    dice, person = world.dice, world.member()
    steps: list[Step] = []
    for _ in range(_size(world, 10, 50)):
        item = world.popular_item()
        steps += world.visit(item)
        if dice.chance(0.25):
            steps.append(world.act(CART, item))
        if dice.chance(0.2):
            steps.append(world.act(PURCHASE, item))
    return [Part(person, steps)]


def fast_comparer(world: World) -> list[Part]:
    """Opens one item of a category after another, in a second or two each, and goes back."""
    dice = world.dice
    category = world.category_of(world.popular_item())
    median_ms = dice.log_between(900, 5_000)
    items: list[int] = []
    steps: list[Step] = []
    for _ in range(_size(world, 15, 90)):
        if items and dice.chance(0.3):
            item = dice.pick(items)
        else:
            item = world.popular_item(category)
            items.append(item)
        steps += world.visit(item)
    gaps = [dice.log_normal(median_ms, 0.6) for _ in steps]
    return [Part(_anybody(world, 0.2), steps, gaps)]


def price_watcher(world: World) -> list[Part]:
    """Looks at the same item again and again for a day, at about the same intervals."""
    dice = world.dice
    items = [world.popular_item() for _ in range(dice.whole(1, 3))]
    every_ms = dice.log_between(4, 120) * MINUTE_MS
    steps: list[Step] = []
    for _ in range(_size(world, 5, 30)):
        steps += world.visit(dice.pick(items))
    return [Part(world.member(), steps, [dice.log_normal(every_ms, 0.3) for _ in steps])]


def restock_waiter(world: World) -> list[Part]:
    """Reloads a page every few seconds until the item is there; then buys it, perhaps."""
    dice, item = world.dice, world.popular_item()
    every_ms = dice.log_between(1_200, 15_000)
    steps: list[Step] = []
    for _ in range(_size(world, 8, 60)):
        steps += world.visit(item)
    if dice.chance(0.5):
        steps += [world.act(CART, item), world.act(PURCHASE, item)]
    gaps = [dice.log_normal(every_ms, 0.35) for _ in steps]
    return [Part(_anybody(world, 0.2), steps, gaps)]


def wish_list(world: World) -> list[Part]:
    """Puts many items into the cart or among the favourites, to decide on them later."""
    dice, person = world.dice, _anybody(world, 0.3)
    kind = dice.pick((CART, FAVOURITE))
    steps: list[Step] = []
    for _ in range(_size(world, 6, 40)):
        item = world.popular_item(dice.pick(person.tastes) if dice.chance(0.8) else None)
        if dice.chance(0.6):
            steps += world.visit(item)
        steps.append(world.act(kind, item))
    median_ms = dice.log_between(2_000, 15_000)
    return [Part(person, steps, [dice.log_normal(median_ms, 0.8) for _ in steps])]


LOOK_ALIKES: Final[dict[str, Callable[[World], list[Part]]]] = {
    f.__name__: f
    for f in (
        flash_sale,
        viral_link,
        welcome_offer,
        family,
        new_phone,
        professional_buyer,
        holiday_spree,
        fast_comparer,
        price_watcher,
        restock_waiter,
        wish_list,
    )
}

CROWDS: Final = frozenset(f.__name__ for f in (flash_sale, viral_link, welcome_offer))  # many users


def look_alike(world: World, kind: str, *, start_ms: float, pace: float = 1.0) -> list[Script]:
    """The scripts of one such scene. `pace` stretches the time over which its people come."""
    scripts = []
    for part in LOOK_ALIKES[kind](world):
        at_ms = start_ms + part.delay_ms * pace
        gaps = part.gaps_ms or [world.gap_ms() for _ in part.steps]
        acts: list[tuple[float, Step]] = []
        for step, gap in zip(part.steps, gaps, strict=True):
            acts.append((at_ms, step))
            at_ms += gap
        scripts.append(Script(part.person, acts))
    return [script for script in scripts if script.acts]
