"""A simulated shop: catalogue, people and traffic as a `World`; steps become events here."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from models.simulate.catalogue import Catalogue, Ids
from models.simulate.dice import Dice
from models.simulate.people import (
    Population,
    Shopper,
    human_gap_ms,
    human_position,
    human_quantity,
)
from models.simulate.style import Habits, ShopStyle
from models.simulate.world import (
    BROWSE,
    CART,
    CLICK,
    FAVOURITE,
    HOUR_MS,
    PURCHASE,
    SEARCH,
    SESSION_BREAK_MS,
    Person,
    Step,
    Timed,
)

_RECORDINGS: Final = 400
_REMEMBERED_SESSIONS: Final = 200_000


class Site:
    """A `World`. `flat`: the same traffic at every hour."""

    def __init__(
        self,
        rng: np.random.Generator,
        style: ShopStyle,
        habits: Habits,
        *,
        users: int,
        items: int,
        categories: int,
        flat: bool,
    ) -> None:
        self._dice = dice = Dice(rng)
        self.style, self.habits = style, habits
        bulk = dice.spawn()
        self._catalogue = Catalogue(bulk, dice, items, categories)
        self._user_ids, self._item_ids, self._category_ids, self._session_ids = (
            Ids(dice, hexadecimal=style.hex_ids) for _ in range(4)
        )
        self.population = Population(bulk, dice, self._catalogue, self._user_ids, users)
        self._shopper = Shopper(dice, self._catalogue, style, habits)
        self._recordings: deque[list[Timed]] = deque(maxlen=_RECORDINGS)
        self._sessions: dict[str, tuple[float, str]] = {}  # user -> last act (ms), session id
        self._sessions_made = 0
        self._hours = [1.0] * 168 if flat else _week(dice, habits.zone_h)
        busiest = max(self._hours)
        self._hours = [x / busiest for x in self._hours]
        self.mean_bustle = sum(self._hours) / 168
        self._flat = flat

    @property
    def dice(self) -> Dice:
        return self._dice

    # -- honest traffic ---------------------------------------------------------------------

    def visitor(self, at_ms: float, newcomers: float) -> Person:
        """Who comes now: a newcomer with that probability, else a regular who is free."""
        dice = self._dice
        if dice.chance(newcomers):
            person = self.population.newcomer()
            if dice.chance(0.5):
                self.population.settle(person)
            return person
        hour = at_ms / HOUR_MS % 24.0
        for _ in range(6):
            person = self.population.regular()
            if person.busy_until_ms > at_ms:
                continue
            apart = abs(hour - person.hour - self.habits.zone_h + 12.0) % 24.0 - 12.0
            if self._flat or dice.chance(math.exp(-abs(apart) / 6.0)):
                return person
        return self.population.newcomer() if person.busy_until_ms > at_ms else person

    def session(self, person: Person) -> list[Timed]:
        """An honest visit; some are kept as recordings for those who copy people."""
        acts = self._shopper.session(person)
        if len(acts) >= 5:
            self._recordings.append(acts)
        return acts

    # -- World ------------------------------------------------------------------------------

    def logs(self, event_type: str) -> bool:
        style = self.style
        switches = {SEARCH: style.searches, CART: style.carts, FAVOURITE: style.favourites}
        return switches.get(event_type, True)

    def popular_item(self, category: int | None = None) -> int:
        return self._catalogue.popular(self._dice, category)

    def any_item(self, category: int | None = None) -> int:
        return self._catalogue.any(self._dice, category)

    def category_of(self, item: int) -> int:
        return int(self._catalogue.category[item])

    def visit(self, item: int) -> list[Step]:
        dice, style = self._dice, self.style
        if not style.clicks or dice.chance(1.0 - self.habits.search):
            return [Step(BROWSE, item)]
        query = self._catalogue.query(dice, self.category_of(item))
        click = Step(CLICK, item, query, human_position(dice))
        searched = style.searches and dice.chance(1.0 / self.habits.looks)
        return [Step(SEARCH, query=query), click] if searched else [click]

    def act(self, event_type: str, item: int, quantity: int | None = None) -> Step:
        if not self.logs(event_type):
            return Step(BROWSE, item)
        if event_type == PURCHASE:
            return Step(PURCHASE, item, quantity=quantity or human_quantity(self._dice))
        return Step(event_type, item)

    def gap_ms(self) -> float:
        return human_gap_ms(self._dice, self.habits)

    def ordinary(self, person: Person, n: int) -> list[Step]:
        steps: list[Step] = []
        while len(steps) < n:
            steps += [step for _, step in self._shopper.session(person)]
        return steps[:n]

    def newcomer(self) -> Person:
        return self.population.newcomer()

    def member(self) -> Person:
        for _ in range(20):
            person = self.population.regular()
            if person.sessions > 1:
                break
        return person

    def recording(self, before_ms: float) -> list[Timed]:
        # The newest begin about now; what is copied of them comes some time later.
        if not self._recordings:
            return self._shopper.session(self.population.newcomer())
        return self._dice.pick(self._recordings)

    def bustle(self, at_ms: float) -> float:
        hours = at_ms / HOUR_MS
        whole = int(hours)
        here, after = self._hours[whole % 168], self._hours[(whole + 1) % 168]
        return here + (after - here) * (hours - whole)

    # -- events -----------------------------------------------------------------------------

    def event(self, event_id: str, person: Person, at_ms: float, step: Step) -> dict[str, object]:
        """The act as the contract has it, with what this shop logs and nothing else."""
        style, item = self.style, step.item
        grain = style.granularity_ms
        event: dict[str, object] = {
            "event_id": event_id,
            "user_id": person.user_id,
            "type": style.page_view if step.type == BROWSE else step.type,
            "event_time": int(at_ms) // grain * grain,
        }
        if item >= 0:
            event["item_id"] = self._item_ids[item]
            if style.categories:
                event["category_id"] = self._category_ids[self._catalogue.category[item]]
            if style.prices:
                price = self._catalogue.price[item]
                event["price"] = price if step.discount == 1.0 else round(price * step.discount, 2)
        if step.query is not None and style.queries:
            event["query"] = step.query
        if step.position is not None and style.positions:
            event["position"] = step.position
        if step.type == PURCHASE and style.quantities:
            event["quantity"] = step.quantity
        if style.sessions:
            event["session_id"] = self._session_id(person.user_id, at_ms)
        return event

    def _session_id(self, user_id: str, at_ms: float) -> str:
        """An account keeps one until it rests for half an hour."""
        known = self._sessions.pop(user_id, None)
        if known is None or at_ms - known[0] > SESSION_BREAK_MS:
            self._sessions_made += 1
            known = (at_ms, self._session_ids[self._sessions_made])
        self._sessions[user_id] = (at_ms, known[1])
        if len(self._sessions) > _REMEMBERED_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return known[1]


def _week(dice: Dice, zone_h: float) -> list[float]:
    """Traffic by hour of the week, UTC from Thursday 0:00, where the epoch begins."""
    evening, lunch = dice.between(0.7, 1.3), dice.between(0.3, 0.8)
    weekend = dice.between(0.9, 1.3)
    hours: list[float] = []
    for hour in range(168):
        local = hour + zone_h
        day = int(local // 24) % 7
        at = local % 24
        level = 0.12 + evening * _bump(at, 20.5, 2.5) + lunch * _bump(at, 12.5, 3.5)
        hours.append(level * (weekend if day in (2, 3) else 1.0))
    return hours


def _bump(hour: float, centre: float, width: float) -> float:
    apart = (hour - centre + 12.0) % 24.0 - 12.0
    return math.exp(-0.5 * (apart / width) ** 2)
