"""What the independent simulator knows of the real shop, and what it draws from it.

`Shop` holds facts of the real events: people, sittings, pauses, items. `Draw` is one reading of
chance over it: it finds items, accounts, cover and moments for attackers and honest people alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import numpy as np
from msgspec import Struct

from models.simulate.world import Difficulty
from scripts.study.splits import DAY_S, FIRST_S, Background, Raw

FROM_S: Final = FIRST_S + 7 * DAY_S  # the two days that are judged
TO_S: Final = FIRST_S + 9 * DAY_S
SITTING_S: Final = 1800  # a longer pause begins another sitting

T = TypeVar("T")


class Step(NamedTuple):
    type: str
    item: str


class Act(NamedTuple):
    at_s: int
    user: str
    type: str
    item: str


class Visit(Struct):
    """What one account does in one go, and when: else the caller chooses."""

    user: str
    steps: list[Step]
    gaps: list[float] | None = None  # before each step but the first
    at_s: float | None = None
    wait_s: float | None = None  # since the campaign's visit before


class Shop:
    """Real events, by what a simulator asks for."""

    def __init__(self, real: Background) -> None:
        lately = [_act(event) for event in real.last]
        before = [_act(event) for event in real.history + real.between]
        acts = sorted(before + lately)
        self.category = {
            str(event["item_id"]): str(event["category_id"])
            for event in real.history + real.between + real.last + real.held_back
        }
        self.sold = Counter(act.item for act in acts)  # events of each item, of any type
        self.pool = [act.item for act in acts]  # an item as often as it was met
        self.siblings: dict[str, list[str]] = defaultdict(list)
        for item in self.pool:
            self.siblings[self.category[item]].append(item)
        of_user: dict[str, list[Act]] = defaultdict(list)
        for act in acts:
            of_user[act.user].append(act)
        self.acts_of = dict(of_user)
        self.users = sorted({act.user for act in lately})
        self.known = sorted({act.user for act in before} & set(self.users)) or self.users
        self.taken = set(of_user) | {str(event["user_id"]) for event in real.held_back}
        self.sittings = [
            sitting
            for user in sorted(of_user)
            for sitting in _sittings(of_user[user])
            if sitting[-1].at_s >= FROM_S - 2 * DAY_S
        ]
        self.recent = [sitting for sitting in self.sittings if sitting[0].at_s >= FROM_S]
        self.gaps = [
            float(b.at_s - a.at_s) for sitting in self.sittings for a, b in pairwise(sitting)
        ] or [60.0]
        ranked = sorted(self.sold.values())
        self.rare = 1  # the least popular items were met once
        self.high = max(2, ranked[int(0.995 * (len(ranked) - 1))])


class Draw:
    """Chance, and what has been handed out so far in one test."""

    def __init__(self, shop: Shop, rng: np.random.Generator) -> None:
        self.shop = shop
        self.rng = rng
        self.category = dict(shop.category)  # new listings are added
        self._used: set[str] = set()
        self._taken = set(shop.taken)

    def pick(self, among: Sequence[T]) -> T:
        return among[int(self.rng.integers(len(among)))]

    def some(self, among: Sequence[T], size: int) -> list[T]:
        """Distinct ones, in random order."""
        order = self.rng.permutation(len(among))[:size]
        return [among[int(n)] for n in order]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def between(self, low: int, high: int) -> int:
        """Whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def near(self, value: float, spread: float) -> float:
        return float(value * self.rng.lognormal(0.0, spread))

    # Items

    def target(self, level: Difficulty) -> str:
        """What an attack is about: the harder, the more it is an item like others."""
        if level == "easy":
            return self.listing() if self.chance(0.5) else self.pick(sorted(self.shop.sold))
        if level == "medium":
            return self.listing() if self.chance(0.3) else self.pick(self.shop.pool)
        return self.middling()

    def middling(self) -> str:
        """Neither among the most nor among the least popular."""
        for _ in range(50):
            item = self.pick(self.shop.pool)
            if self.shop.rare < self.shop.sold[item] <= self.shop.high:
                break
        return item

    def anchor(self, level: Difficulty) -> str:
        """An item that many people meet; a careful attacker avoids the very first ones."""
        best = [item for item, _ in self.shop.sold.most_common()]
        if level == "easy":
            return self.pick(best[:5])
        top = max(10, len(best) // 50)
        return self.pick(best[:top] if level == "medium" else best[top // 4 : 3 * top])

    def listing(self) -> str:
        """A new item in an existing category."""
        category = self.category[self.pick(self.shop.pool)]
        while (item := str(self.between(1_000, 5_163_000))) in self.category:
            pass
        self.category[item] = category
        return item

    def sibling(self, item: str) -> str:
        """An item of the same category, as often as people meet it; or the item, if alone."""
        return self.pick(self.shop.siblings.get(self.category[item]) or [item])

    def siblings(self, item: str, size: int) -> list[str]:
        """Distinct ones beside the item; of other categories where its own has too few."""
        others = sorted(set(self.shop.siblings.get(self.category[item], ())) - {item})
        found = self.some(others, size)
        while len(found) < size:
            found.append(self.pick(self.shop.pool))
        return found

    # Accounts

    def newcomer(self) -> str:
        while (user := str(self.between(1_000_000, 1_018_011))) in self._taken:
            pass
        self._taken.add(user)
        return user

    def regular(self, *, old: bool = True) -> str:
        """A real account that nobody has been given yet, as long as there are such."""
        among = self.shop.known if old else self.shop.users
        free = [user for user in among if user not in self._used] or among
        user = self.pick(free)
        self._used.add(user)
        return user

    # Behaviour

    def template(self, low: int = 2) -> list[Act]:
        """A real sitting of at least `low` acts, if there is one after a few tries."""
        tried = [self.pick(self.shop.sittings) for _ in range(30)]
        return next((s for s in tried if len(s) >= low), max(tried, key=len))

    def like_real(self, size: int) -> tuple[list[Step], list[float]]:
        """A cut of somebody's sitting, half of its items exchanged; and its pauses."""
        sitting = self.template(size)
        first = self.between(0, max(0, len(sitting) - size))
        cut = sitting[first : first + size]
        steps = [
            Step(act.type, self.sibling(act.item) if self.chance(0.5) else act.item) for act in cut
        ]
        return steps, [float(b.at_s - a.at_s) for a, b in pairwise(cut)]

    def pauses(self, size: int) -> list[float]:
        """Real pauses within sittings."""
        return [self.pick(self.shop.gaps) for _ in range(size)]

    def start(self) -> float:
        """A moment at which somebody could have come, by the real clock."""
        at_s = self.pick(self.shop.recent)[0].at_s + float(self.rng.uniform(-1200, 1200))
        return FROM_S + abs(at_s - FROM_S)

    def riding(self, user: str) -> float | None:
        """Right after something that the account's owner did in the judged days."""
        own = [act.at_s for act in self.shop.acts_of.get(user, ()) if act.at_s >= FROM_S]
        return self.pick(own) + max(1.0, self.pick(self.shop.gaps)) if own else None

    def idle(self, user: str, from_s: float, to_s: float) -> bool:
        """Whether the owner is away then, with a quarter of an hour to both sides."""
        own = [act.at_s for act in self.shop.acts_of.get(user, ())]
        return bisect_left(own, from_s - 900) == bisect_left(own, to_s + 900)

    def owner_items(self, user: str) -> list[str]:
        """What the owner looked at before the judged days; anything, of an unknown owner."""
        own = [act.item for act in self.shop.acts_of.get(user, ()) if act.at_s < FROM_S]
        return own or [self.pick(self.shop.pool)]

    def acts(self, visit: Visit, at_s: float, gaps: Sequence[float]) -> list[Act]:
        """The visit from `at_s` on, moved back into the judged days where it sticks out."""
        offsets = np.concatenate([[0.0], np.cumsum(gaps[: len(visit.steps) - 1])])
        if at_s + offsets[-1] >= TO_S:
            at_s = TO_S - 1 - float(offsets[-1]) - float(self.rng.uniform(0, SITTING_S))
        at_s = max(at_s, float(FROM_S))
        return [
            Act(min(int(at_s + offset), TO_S - 1), visit.user, step.type, step.item)
            for offset, step in zip(offsets, visit.steps, strict=True)
        ]


def _act(event: Raw) -> Act:
    at_ms = event["event_time"]
    assert isinstance(at_ms, int)
    return Act(at_ms // 1000, str(event["user_id"]), str(event["type"]), str(event["item_id"]))


def _sittings(acts: Sequence[Act]) -> list[list[Act]]:
    found: list[list[Act]] = []
    for act in acts:
        if found and act.at_s - found[-1][-1].at_s <= SITTING_S:
            found[-1].append(act)
        else:
            found.append([act])
    return found
