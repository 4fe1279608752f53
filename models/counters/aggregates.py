"""Some 200 numbers of each event from the past of its user, item, group and the site.

One pass in order of arrival: an event is looked at before it is counted, so a number never knows
what comes after it. Time of day and day of week are left out: campaigns are few, and a detector
would learn when they were.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.counters import company, habits, rhythm, things
from models.counters.act import NAN, Act, Fields, acts, streams
from models.counters.shopper import NEVER, Shopper
from models.counters.site import SITE_NAMES, Values
from models.counters.state import State
from models.counters.things import Group, Item

if TYPE_CHECKING:
    from models.dataset import Dataset

_CARRIED: Final = (  # of these, how the user's own earlier events had it
    "item in 1 h", "item events", "item burst of 1 h", "item young share", "item rest",
    "group burst of 1 h", "visitors in 1 h", "visitors' experience", "visitors' gaps near",
    "visits spread", "shared most", "step taken", "step between groups", "step between types",
)  # fmt: skip
_RATE: Final = 0.2  # of the running means


class Aggregates(Struct, frozen=True):
    """NaN where there is nothing to tell."""

    names: tuple[str, ...]
    values: NDArray[np.float32]  # (events, names), in order of arrival
    own: NDArray[np.bool_]  # (names,) from the user's own past alone


def aggregate(data: Dataset) -> Aggregates:
    """All events of `data`; about 0.1 ms each."""
    fields = Fields.of(data.windows.rows.dtype)
    names = Stream(fields).names
    values = np.empty((len(data), len(names)), np.float32)
    for part in streams(data):
        stream = Stream(fields)
        for at, act in enumerate(acts(data, part), part.start):
            values[at] = stream.step(act)
    own = np.zeros(len(names), np.bool_)
    own[: len(rhythm.NAMES) + len(habits.NAMES)] = True
    return Aggregates(names, values, own)


class Stream:
    """Counts the events of one stream."""

    def __init__(self, fields: Fields) -> None:
        self._values = Values(fields)
        self.state = self.nothing_known()
        told = (
            *rhythm.NAMES,
            *habits.NAMES,
            *things.names("item"),
            *things.names("group"),
            "item share of group",
            *company.VISITOR_NAMES,
            *company.STEP_NAMES,
            "step between groups",
            *SITE_NAMES,
            *self._values.names,
        )
        self._carried = [told.index(name) for name in _CARRIED]
        self.names = (*told, *(f"{name}, so far" for name in _CARRIED))

    def nothing_known(self) -> State:
        """The state before the first event."""
        return State(self._values.further)

    def step(self, act: Act) -> list[float]:
        """The numbers of an event, which then becomes part of the past."""
        state = self.state
        user = state.user(act, self._values.width)
        item, group = state.item(act.item, act.at_s), state.group(act.group, act.at_s)
        left_item, left_group = self._left(act, user)
        user.arrive(act)
        found = rhythm.look(act, user) + habits.look(act, user)
        found += things.look(item, act)
        found += things.look(group, act)
        found.append(_share(item, group))
        found += company.look(item, act, user, state.users)
        steps, nats = company.follow(left_item, left_group, act, user)
        found += steps
        found.append(nats)
        site = state.site
        found += site.look(act, user)
        valued = item or site.item, group or site.group
        found += self._values.look(act, user, *valued, state.others)
        found += self._carry(found, user)
        site.add(act, user)
        self._values.add(act, user, *valued, state.others)
        company.leave(left_item, left_group, act, user)
        if item is not None:
            company.meet(item, act, user)
            item.add(act, user, user.items.get(act.item, NEVER).at_s)
        if group is not None:
            group.add(act, user, user.groups.get(act.group, NEVER).at_s)
        user.add(act)
        return found

    def _left(self, act: Act, user: Shopper) -> tuple[Item | None, Group | None]:
        """Where the user comes from, if that is not where they are."""
        last, state = user.last, self.state
        if last is None:
            return None, None
        item = state.item(last.item, act.at_s) if act.item not in (0, last.item) else None
        group = state.group(last.group, act.at_s) if act.group not in (0, last.group) else None
        return item, group

    def _carry(self, found: Sequence[float], user: Shopper) -> list[float]:
        """Running means of some numbers over the user's earlier events; then the event's own."""
        own = [found[at] for at in self._carried]
        before = user.carried
        if not before:
            user.carried = own
            return [NAN] * len(own)
        user.carried = [
            b if o != o else o if b != b else b + _RATE * (o - b)
            for b, o in zip(before, own, strict=True)
        ]
        return before


class Memory:
    """The aggregates of data sets, for as long as these are there: several detectors ask for the
    same.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Aggregates] = {}

    def of(self, data: Dataset) -> Aggregates:
        key = id(data)
        if key not in self._kept:
            self._kept[key] = aggregate(data)
            weakref.finalize(data, self._kept.pop, key, None)
        return self._kept[key]


def _share(item: Item | None, group: Group | None) -> float:
    """Of the group's events in three days, those on the item."""
    if item is None or group is None:
        return NAN
    return log((item.counts[4] + 0.2) / (group.counts[4] + 1))
