"""What is known of one stream: its users, items, groups, further categories, and as a whole."""

from __future__ import annotations

from typing import TypeVar

from models.counters.act import Act
from models.counters.keep import FORGET_S
from models.counters.shopper import Shopper
from models.counters.site import Further, Site
from models.counters.things import Group, Item, Thing

Kind = TypeVar("Kind", bound=Thing)


class State:
    def __init__(self, further: int) -> None:
        """`further`: categories beyond item and group that are counted."""
        self.site = Site()
        self.users: dict[int, Shopper] = {}
        self.items: dict[int, Item] = {}
        self.groups: dict[int, Group] = {}
        self.others: list[dict[int, Further]] = [{} for _ in range(further)]

    def user(self, act: Act, values: int) -> Shopper:
        """Who acts; somebody new if they were silent for long."""
        found = self.users.get(act.user)
        if found is None or act.at_s - found.last_s > FORGET_S:
            found = Shopper.begun(act.user, act.at_s, values, len(self.others))
            self.users[act.user] = found
        return found

    def item(self, key: int, at_s: float) -> Item | None:
        """None for none; a new one if nobody came for long."""
        return _thing(self.items, Item, key, at_s)

    def group(self, key: int, at_s: float) -> Group | None:
        """Likewise."""
        return _thing(self.groups, Group, key, at_s)


def _thing(known: dict[int, Kind], make: type[Kind], key: int, at_s: float) -> Kind | None:
    if not key:
        return None
    found = known.get(key)
    if found is None or at_s - found.at_s > FORGET_S:
        found = known[key] = make(at_s)
    return found
