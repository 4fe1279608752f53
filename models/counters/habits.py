"""What a user acts on: novelty, repetition, types."""

from __future__ import annotations

from itertools import islice
from math import log1p
from typing import Final

from models.counters.act import NAN, SLOTS, Act
from models.counters.shopper import NEVER, Shopper

_MEMORIES: Final = (8, 16, 64)
_RECENT: Final = 15
_FAMILIAR: Final = 8  # events before types mean anything

NAMES: Final = (
    "item seen", "item seen lately", "item age", "group seen", "group seen lately", "group age",
    *(f"items of {m}" for m in _MEMORIES), *(f"groups of {m}" for m in _MEMORIES),
    "run of item", "run of group", "run of type", "same item", "same group",
    "group sessions", "group familiar", "top item share", "top group share", "u items",
    *(f"type {k} of 16" for k in range(1, SLOTS + 1)),
    *(f"type {k} of all" for k in range(1, SLOTS + 1)),
    "type familiar", "types on item", "type new on item", "touched before", "last type",
    *(f"is type {k}" for k in range(1, SLOTS + 1)),
)  # fmt: skip


def look(act: Act, user: Shopper) -> list[float]:
    """The event that just arrived, against the user's past."""
    item, group, slot, n, last = act.item, act.group, act.slot, user.n, user.last
    on_item, on_group = user.items.get(item, NEVER), user.groups.get(group, NEVER)
    seen, group_seen = on_item.times, on_group.times
    found = [
        log1p(seen) if item else NAN,
        log1p(user.window_items.count(item)) if item else NAN,
        log1p(max(0.0, act.at_s - on_item.at_s)) if seen else NAN,
        log1p(group_seen) if group else NAN,
        log1p(user.window_groups.count(group)) if group else NAN,
        log1p(max(0.0, act.at_s - on_group.at_s)) if group_seen else NAN,
    ]
    for window, own in ((user.window_items, item), (user.window_groups, group)):
        size = len(window)
        for memory in _MEMORIES:
            if 4 * size < memory or not own:
                found.append(NAN)
                continue
            some = set(islice(reversed(window), memory - 1))
            found.append((len(some) + (own not in some)) / (min(size, memory - 1) + 1))
    found += [log1p(run) for run in user.runs]
    if last is not None:
        found += [float(item == last.item) if item else NAN]
        found += [float(group == last.group) if group else NAN]
    else:
        found += [NAN, NAN]
    known = user.known_groups.get(group, 0)
    found += [
        log1p(known) if user.known_groups and group else NAN,
        known / (user.sessions - 1) if user.sessions > 1 and group else NAN,
        max(user.item_top, seen + 1) / (n + 1) if item else NAN,
        max(user.group_top, group_seen + 1) / (n + 1) if group else NAN,
        len(user.items) / n if n else NAN,
    ]
    lately = [0] * SLOTS
    lately[slot] = 1
    for other in islice(reversed(user.window_slots), _RECENT):
        lately[other] += 1
    size = min(n, _RECENT) + 1
    found += [count / size for count in lately]
    found += [(count + (k == slot)) / (n + 1) for k, count in enumerate(user.slots)]
    did = on_item.did
    found += [
        (user.slots[slot] + 0.5) / (n + 1) if n >= _FAMILIAR else NAN,
        float(did.bit_count()) if item else NAN,
        float(not did >> slot & 1) if item else NAN,
        float(did > 0) if item else NAN,
        float(last.slot + 1) if last is not None else 0.0,
    ]
    found += [float(k == slot) for k in range(SLOTS)]
    return found
