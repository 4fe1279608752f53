"""A state whose things lie elsewhere: what events need of it by key, and things as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import msgpack

from models.counters.act import Act
from models.counters.shopper import Shopper
from models.counters.site import Further, Site
from models.counters.state import State
from models.counters.things import Group, Item
from stream_app.core.ports import SITE, Key

_USER, _ITEM, _GROUP = b"u", b"i", b"g"
_DECODERS: Final[Mapping[bytes, msgpack.Decoder[Any]]] = {
    _USER: msgpack.Decoder(Shopper),
    _ITEM: msgpack.Decoder(Item),
    _GROUP: msgpack.Decoder(Group),
}
_SITE: Final = msgpack.Decoder(Site)
_FURTHER: Final = msgpack.Decoder(Further)
_encode: Final = msgpack.Encoder().encode
# Of each kind, as stored; in memory they take six to ten times as much. Most are small, but the
# user of a robot may have 100 KB.
MOST_BYTES: Final = 64 << 20


class AtHand:
    """The things of `state` that were read or made; of each kind the ones used last."""

    def __init__(self, state: State, most: int) -> None:
        """`most` of each kind stay, or fewer if these have MOST_BYTES."""
        self._state = state
        self._most = most
        further = {b"%d" % at: known for at, known in enumerate(state.others)}
        self._known: dict[bytes, dict[int, Any]] = {
            _USER: state.users,
            _ITEM: state.items,
            _GROUP: state.groups,
            **further,
        }
        self._sizes: dict[bytes, dict[int, int]] = {kind: {} for kind in self._known}
        self._bytes = dict.fromkeys(self._known, 0)

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        return [(kind, number) for kind, number in keys if number not in self._known[kind]]

    def put(self, keys: Sequence[Key], stored: Sequence[bytes | None]) -> None:
        for (kind, number), value in zip(keys, stored, strict=True):
            if value is not None:
                self._known[kind][number] = _DECODERS.get(kind, _FURTHER).decode(value)
                self._weigh(kind, number, len(value))

    def put_site(self, stored: bytes) -> None:
        self._state.site = _SITE.decode(stored)

    def changed(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """These and the site, as bytes."""
        found = {
            (kind, number): _encode(self._known[kind][number])
            for kind, number in keys
            if number in self._known[kind]
        }
        for (kind, number), value in found.items():
            self._weigh(kind, number, len(value))
        found[SITE] = _encode(self._state.site)
        return found

    def named(self, acts: Sequence[Act]) -> set[Key]:
        """What the events name; all of it changes with them."""
        found: set[Key] = set()
        for act in acts:
            found.add((_USER, act.user))
            if act.item:
                found.add((_ITEM, act.item))
            if act.group:
                found.add((_GROUP, act.group))
            named = zip(range(len(self._state.others)), act.others, strict=False)
            found.update((b"%d" % at, other) for at, other in named if other)
        return found

    def left(self, acts: Sequence[Act]) -> set[Key]:
        """Where the users come from: steps lead away from there. Users have to be at hand."""
        users = (self._state.users.get(number) for number in {act.user for act in acts})
        last = [user.last for user in users if user is not None and user.last is not None]
        found = {(_ITEM, act.item) for act in last if act.item}
        return found | {(_GROUP, act.group) for act in last if act.group}

    def visitors(self, acts: Sequence[Act]) -> set[Key]:
        """Who was on the items; these have to be at hand."""
        items = (self._state.items.get(number) for number in {act.item for act in acts})
        return {(_USER, visit.user) for item in items if item is not None for visit in item.visits}

    def used(self, keys: Iterable[Key]) -> None:
        """Let go of what was not used for longest, beyond as many as may stay."""
        for kind, number in keys:
            known = self._known[kind]
            if number in known:
                known[number] = known.pop(number)
        for kind, known in self._known.items():
            for number in list(known) if self._too_many(kind) else ():
                del known[number]
                self._bytes[kind] -= self._sizes[kind].pop(number, 0)
                if not self._too_many(kind):
                    break

    def _too_many(self, kind: bytes) -> bool:
        return len(self._known[kind]) > self._most or self._bytes[kind] > MOST_BYTES

    def _weigh(self, kind: bytes, number: int, size: int) -> None:
        sizes = self._sizes[kind]
        self._bytes[kind] += size - sizes.get(number, 0)
        sizes[number] = size
