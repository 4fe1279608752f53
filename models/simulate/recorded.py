"""A `World` made of a file of real events: nothing is made up but user, time, item and order.

Every step copies the fields of a real event of its type, and of its item where there is one. Knows
nothing of labels: what is in the file is taken for honest.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.simulate.dice import Dice
from models.simulate.forge import Forge
from models.simulate.world import (
    BROWSE,
    CLICK,
    HOUR_MS,
    SEARCH,
    SESSION_BREAK_MS,
    Person,
    Step,
    Timed,
)
from stream_app.core.errors import Misconfigured

RawEvent = Mapping[str, object]
_OF_ITEM: Final = ("item_id", "category_id", "price")
_REMEMBERED: Final = 20  # items
_SEARCHABLE: Final = 20  # tries to draw something that suits, before anything will do


class Recorded:
    """The world of `events`: canonical dicts with `event_time` in epoch ms, in file order.

    Raises Misconfigured if no event has an item.
    """

    def __init__(self, events: Sequence[RawEvent], rng: np.random.Generator, from_ms: int) -> None:
        self._dice = dice = Dice(rng)
        self.events = events
        self.times_ms = np.array([_time(e) for e in events], np.int64)
        # A few wrong clocks must not stretch the time in which attacks happen.
        low, high = np.quantile(self.times_ms, [0.002, 0.999])
        self.first_ms, self.last_ms = max(int(low), from_ms), int(high)
        self.starts_ms = np.sort(
            self.times_ms[(self.times_ms >= self.first_ms) & (self.times_ms <= self.last_ms)]
        )
        self.grain_ms = 1000 if np.mean(self.times_ms % 1000 == 0) > 0.99 else 1
        self._index()
        self._cut_sessions()
        hours = np.bincount(self.times_ms // HOUR_MS % 24, minlength=24).astype(np.float64)
        self._hours = np.maximum(hours / hours.max(), 0.02).tolist()
        self.users = Forge(dice, sorted({str(e["user_id"]) for e in events}))
        self._new_items = Forge(dice, [i for i in self._item_ids if i])

    @property
    def dice(self) -> Dice:
        return self._dice

    def _index(self) -> None:
        """Number items and categories; find events by type, item, category and user."""
        numbers: dict[str, int] = {}
        categories: dict[str, int] = {}
        self._item_of: list[int] = []  # by event; -1: none
        self._category: list[int] = []  # by item
        self._of_type: dict[str, list[int]] = defaultdict(list)
        self._of_item: dict[int, list[int]] = defaultdict(list)
        self._of_category: dict[int, list[int]] = defaultdict(list)
        self._of_user: dict[str, list[int]] = defaultdict(list)
        first_looks = later = 0
        for place, event in enumerate(self.events):
            self._of_type[str(event["type"])].append(place)
            self._of_user[str(event["user_id"])].append(place)
            item_id = event.get("item_id")
            if item_id is None:
                self._item_of.append(-1)
                continue
            if place > len(self.events) // 2:
                later += 1
                first_looks += item_id not in numbers
            item = numbers.setdefault(str(item_id), len(numbers))
            self._item_of.append(item)
            if item == len(self._category):
                name = str(event.get("category_id", ""))
                self._category.append(categories.setdefault(name, len(categories)))
            self._of_item[item].append(place)
            self._of_category[self._category[item]].append(place)
        if not numbers:
            raise Misconfigured("no event has an item_id: there is nothing to attack")
        self._item_ids = list(numbers)
        self._with_item = [p for places in self._of_item.values() for p in places]
        self._unseen = first_looks / max(later, 1)  # real events whose item nobody saw before
        counts = Counter({t: len(p) for t, p in self._of_type.items()})
        looks = [t for t in (BROWSE, CLICK) if t in counts] or [counts.most_common(1)[0][0]]
        self._looks = [t for t in looks for _ in range(max(1, 20 * counts[t] // len(self.events)))]
        self._searching = min(1.0, counts[SEARCH] / max(sum(counts[t] for t in looks), 1))

    def _cut_sessions(self) -> None:
        """Runs of at least three events of a user with less than half an hour between them."""
        self._sessions: list[list[int]] = []
        gaps: list[float] = []
        for places in self._of_user.values():
            run = places[:1]
            for before, place in itertools.pairwise(places):
                gap = float(self.times_ms[place] - self.times_ms[before])
                if not 0 <= gap <= SESSION_BREAK_MS:
                    if len(run) >= 3:
                        self._sessions.append(run)
                    run = []
                else:
                    gaps.append(gap)
                run.append(place)
            if len(run) >= 3:
                self._sessions.append(run)
        self._sessions = self._sessions or list(self._of_user.values())
        self._sessions.sort(key=lambda run: int(self.times_ms[run[-1]]))
        self._ends_ms = [int(self.times_ms[run[-1]]) for run in self._sessions]
        self._gaps_ms = gaps or [10_000.0]

    # -- World ------------------------------------------------------------------------------

    def logs(self, event_type: str) -> bool:
        return event_type in self._of_type

    def popular_item(self, category: int | None = None) -> int:
        places = self._with_item if category is None else self._of_category[category]
        return self._item_of[self._dice.pick(places)]

    def any_item(self, category: int | None = None) -> int:
        """As often as real people look at what nobody saw before, a new item of that category."""
        dice = self._dice
        item = dice.whole(0, len(self._item_ids) - 1) if category is None else -1
        if category is not None:
            item = self._item_of[dice.pick(self._of_category[category])]
        return self._unknown(item) if dice.chance(self._unseen) else item

    def _unknown(self, like: int) -> int:
        """An item that the file does not have, with the price and category of `like`."""
        self._item_ids.append(self._new_items.make())
        item = len(self._item_ids) - 1
        self._category.append(self._category[like])
        self._of_item[item] = self._of_item[like]
        return item

    def category_of(self, item: int) -> int:
        return self._category[item]

    def visit(self, item: int) -> list[Step]:
        look = self._step(self._dice.pick(self._looks), item)
        if self._searching and self._dice.chance(self._searching):
            return [Step(SEARCH, source=self._dice.pick(self._of_type[SEARCH])), look]
        return [look]

    def act(self, event_type: str, item: int, quantity: int | None = None) -> Step:
        if not self.logs(event_type):
            return self._step(self._dice.pick(self._looks), item)
        return self._step(event_type, item, quantity)

    def _step(self, event_type: str, item: int, quantity: int | None = None) -> Step:
        """A copy of a real event of that type, of that item if there is one."""
        own = [p for p in self._of_item[item][:50] if self.events[p]["type"] == event_type]
        source = self._dice.pick(own or self._of_type[event_type])
        return Step(event_type, item, quantity=quantity or 0, source=source)

    def gap_ms(self) -> float:
        return self._dice.pick(self._gaps_ms) * math.exp(0.25 * self._dice.normal())

    def ordinary(self, person: Person, n: int) -> list[Step]:
        """Stretches of real sessions, with other items of the same categories."""
        dice = self._dice
        steps: list[Step] = []
        while len(steps) < n:
            run = dice.pick(self._sessions)
            begin = dice.whole(0, max(0, len(run) - n))
            for place in run[begin : begin + n - len(steps)]:
                item = self._item_of[place]
                if item >= 0:
                    category = self._category[item]
                    unseen = dice.chance(self._unseen)
                    item = self._unknown(item) if unseen else self.popular_item(category)
                steps.append(Step(str(self.events[place]["type"]), item, quantity=0, source=place))
        return steps

    def newcomer(self) -> Person:
        run = self._dice.pick(self._sessions)
        return Person(self.users.make(), self._tastes(run))

    def member(self) -> Person:
        for _ in range(_SEARCHABLE):
            user = str(self._dice.pick(self.events)["user_id"])
            if len(self._of_user[user]) >= 8:
                break
        places = self._of_user[user]
        begin = self._dice.whole(0, max(0, len(places) - _REMEMBERED))
        seen = [i for i in map(self._item_of.__getitem__, places[begin:][:_REMEMBERED]) if i >= 0]
        return Person(user, self._tastes(places), seen=seen)

    def _tastes(self, places: Sequence[int]) -> list[int]:
        items = [self._item_of[p] for p in places]
        counts = Counter(self._category[i] for i in items if i >= 0)
        return [c for c, _ in counts.most_common()] or [0]

    def recording(self, before_ms: float) -> list[Timed]:
        past = bisect_left(self._ends_ms, before_ms)
        run = self._dice.pick(self._sessions[:past] or self._sessions)
        acts: list[Timed] = []
        for before, place in zip([run[0], *run], run, strict=False):
            step = Step(
                str(self.events[place]["type"]), self._item_of[place], quantity=0, source=place
            )
            acts.append((max(0.0, float(self.times_ms[place] - self.times_ms[before])), step))
        return acts

    def bustle(self, at_ms: float) -> float:
        return float(self._hours[int(at_ms // HOUR_MS) % 24])

    # -- events -----------------------------------------------------------------------------

    def event(self, event_id: str, person: Person, at_ms: float, step: Step) -> dict[str, object]:
        """The act with the fields of the event that it copies; without `session_id`."""
        event = dict(self.events[step.source])
        event.pop("session_id", None)
        if step.item >= 0:
            like = self.events[self._of_item[step.item][0]]
            for name in _OF_ITEM:
                event.pop(name, None)
                if name in like:
                    event[name] = like[name]
            event["item_id"] = self._item_ids[step.item]
        price = event.get("price")
        if step.discount != 1.0 and isinstance(price, (int, float)):
            event["price"] = round(price * step.discount, 2)
        if step.quantity and "quantity" in event:
            event["quantity"] = step.quantity
        event["event_id"], event["user_id"] = event_id, person.user_id
        event["event_time"] = int(at_ms) // self.grain_ms * self.grain_ms
        return event


def _time(event: RawEvent) -> int:
    at_ms = event["event_time"]
    if not isinstance(at_ms, int):
        raise TypeError(f"event_time must be whole epoch milliseconds, not {at_ms!r}")
    return at_ms
