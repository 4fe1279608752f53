"""How much is remembered, so that no user and no item grows without an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from models.counters.act import DAY

KEPT: Final = 2048  # things of a user: of more the older half is forgotten
STEPS: Final = 256  # from an item or group to others; likewise
FORGET_S: Final = 30 * DAY  # whoever was silent for longer is new

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep(known: dict[Key, Value], age: Callable[[Value], float], most: int = KEPT) -> None:
    """Make room for one more; `age` grows with what is newer."""
    if len(known) < most:
        return
    oldest = sorted(known, key=lambda key: age(known[key]))
    for key in oldest[: most // 2]:
        del known[key]
