"""Honest people: what a session of one looks like, and who comes back.

search -> looks at results -> looks again, compares -> favourite or cart -> sometimes a purchase.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from models.simulate.catalogue import Catalogue, Ids
from models.simulate.dice import Dice
from models.simulate.style import Habits, ShopStyle
from models.simulate.world import (
    BROWSE,
    CART,
    CLICK,
    FAVOURITE,
    PURCHASE,
    SEARCH,
    Person,
    Step,
    Timed,
)

REMEMBERED: Final = 24  # items a person may come back to
MAX_SESSION: Final = 150  # acts


def human_gap_ms(dice: Dice, habits: Habits, pace: float = 1.0) -> float:
    """Between two acts of a person: mostly some seconds, at times one, at times minutes."""
    kind = dice.uniform()
    if kind < habits.hasty:
        return dice.log_normal(1_800, 0.6) * pace
    if kind < habits.hasty + habits.pauses:
        return dice.log_between(90_000, 1_500_000)
    return dice.log_normal(habits.gap_s * 1000, habits.gap_sigma) * pace


def human_position(dice: Dice) -> int:
    """Place in a result list that somebody clicks: mostly the top, now and then far down."""
    return dice.geometric(4.0) if dice.chance(0.85) else dice.whole(0, 60)


def human_quantity(dice: Dice) -> int:
    return 1 if dice.chance(0.86) else 2 + dice.geometric(0.8)


class Shopper:
    """Writes honest sessions for the people of one shop."""

    def __init__(self, dice: Dice, catalogue: Catalogue, style: ShopStyle, habits: Habits) -> None:
        self._dice, self._catalogue, self._style = dice, catalogue, style
        self._habits = habits

    def session(self, person: Person) -> list[Timed]:
        """One visit; the person remembers what they saw. At least one act."""
        dice, habits = self._dice, self._habits
        acts: list[Timed] = []
        for _ in range(1 + dice.geometric(habits.goals - 1.0)):
            if dice.chance(habits.explore):
                category = self._catalogue.category[self._catalogue.popular(dice)]
            else:
                category = person.tastes[int(len(person.tastes) * dice.uniform() ** 1.7)]
            self._pursue(person, category, acts)
            if len(acts) > MAX_SESSION:
                break
        if person.cart and dice.chance(min(0.9, habits.checkout * person.thrift)):
            self._check_out(person, acts)
        person.sessions += 1
        del person.seen[:-REMEMBERED]
        return acts

    def _pursue(self, person: Person, category: int, acts: list[Timed]) -> None:
        """Look for something in a category."""
        dice, habits, style = self._dice, self._habits, self._style
        query: str | None = None
        if style.clicks and dice.chance(habits.search):
            query = self._catalogue.query(dice, category)
            if style.searches:
                self._add(acts, person, Step(SEARCH, query=query))
        here: list[int] = []
        for _ in range(1 + dice.geometric(habits.looks - 1.0)):
            old = here if here and dice.chance(0.6) else person.seen
            if old and dice.chance(habits.revisit):
                item = dice.pick(old)
                step = Step(BROWSE, item)
            else:
                item = self._catalogue.popular(dice, category)
                if query is not None and dice.chance(0.85):
                    step = Step(CLICK, item, query, human_position(dice))
                else:
                    step = Step(BROWSE, item)
            self._add(acts, person, step)
            here.append(item)
            person.seen.append(item)
            if dice.chance(habits.reloads):
                acts.append((dice.between(150, 2_000), step))
            self._decide(person, item, acts)
        if len(here) > 2 and dice.chance(habits.compares):
            pair = (dice.pick(here), dice.pick(here))
            for turn in range(dice.whole(2, 5)):
                self._add(acts, person, Step(BROWSE, pair[turn % 2]))

    def _decide(self, person: Person, item: int, acts: list[Timed]) -> None:
        dice, habits, style = self._dice, self._habits, self._style
        mood = dice.uniform()
        if mood < habits.favourite:
            if style.favourites:
                self._add(acts, person, Step(FAVOURITE, item))
        elif mood < habits.favourite + habits.cart:
            if style.carts:
                self._add(acts, person, Step(CART, item))
            if len(person.cart) < 12:
                person.cart.append(item)
        elif mood < habits.favourite + habits.cart + habits.buy_now * person.thrift:
            quantity = human_quantity(dice)
            self._add(acts, person, Step(PURCHASE, item, quantity=quantity))

    def _check_out(self, person: Person, acts: list[Timed]) -> None:
        """Buy what is in the cart, all or a part, in one go."""
        dice = self._dice
        count = len(person.cart) if dice.chance(0.6) else dice.whole(1, len(person.cart))
        bought, person.cart = person.cart[:count], person.cart[count:]
        apart_ms = 0.0 if dice.chance(0.5) else dice.log_between(20, 3_000)
        for place, item in enumerate(bought):
            gap_ms = apart_ms if place else dice.log_normal(25_000, 0.8)
            acts.append((gap_ms, Step(PURCHASE, item, quantity=human_quantity(dice))))

    def _add(self, acts: list[Timed], person: Person, step: Step) -> None:
        acts.append((human_gap_ms(self._dice, self._habits, person.pace), step))


class Population:
    """Everybody who may come: a fixed number of places, newcomers taking those of others."""

    def __init__(
        self, rng: np.random.Generator, dice: Dice, catalogue: Catalogue, ids: Ids, users: int
    ) -> None:
        self._dice, self._catalogue, self._ids = dice, catalogue, ids
        activity = rng.lognormal(0.0, dice.between(0.8, 1.3), users)
        self._cumulative = np.cumsum(activity).tolist()
        self._people: list[Person | None] = [None] * users
        self._made = 0

    def newcomer(self) -> Person:
        """Somebody without a past; not (yet) one of the regulars."""
        dice, catalogue = self._dice, self._catalogue
        self._made += 1
        tastes = [
            catalogue.category[catalogue.popular(dice)] for _ in range(1 + dice.geometric(2.5))
        ]
        return Person(
            self._ids[self._made],
            tastes,
            pace=dice.log_normal(1.0, 0.35),
            thrift=dice.log_normal(1.0, 0.6),
            hour=(12.0 + 5.0 * dice.normal()) % 24.0,
        )

    def settle(self, person: Person) -> None:
        """Make somebody a regular, in the place of another."""
        self._people[self._dice.whole(0, len(self._people) - 1)] = person

    def regular(self) -> Person:
        """One of those who come, drawn by activity."""
        cumulative = self._cumulative
        at = self._dice.uniform() * cumulative[-1]
        place = min(bisect_right(cumulative, at), len(cumulative) - 1)
        person = self._people[place]
        if person is None:
            person = self.newcomer()
            person.seen = [
                self._catalogue.popular(self._dice, self._dice.pick(person.tastes))
                for _ in range(self._dice.whole(0, 8))
            ]
            self._people[place] = person
        return person
