"""What may be wrong with a row, and what is done about it.

A row is dropped for the first check in this order that hits and drops, so that the counts add up:
rows read = rows kept + rows dropped, check by check.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stream_app.core.errors import Misconfigured


class Check(Struct, frozen=True):
    """A thing to look for. Flagged rows are kept; a flagged value that no event may have is not."""

    name: str
    means: str
    drop: bool  # by default
    always: bool = False  # such a row can be no event: it can not be kept


CHECKS: Final = (
    Check("unreadable", "no JSON object, no UTF-8, or another number of columns", True, True),
    Check("no-user", "without a user", True, True),
    Check("no-type", "without a type", True, True),
    Check("unknown-type", "of a type that the schema does not have", True, True),
    Check("no-time", "without a time", True, True),
    Check("bad-time", "its time cannot be read, or is before 1970 or after 6429", True, True),
    Check("too-long", "an id or query longer than the contract allows", True, True),
    Check("far-time", "far outside the time of the other events: a broken clock", True),
    Check("bad-price", "price is no number, or negative; flagged: price removed", False),
    Check("bad-position", "position is no whole number from 0; flagged: removed", False),
    Check("bad-quantity", "quantity is no whole number from 1; flagged: removed", False),
    Check("bad-attributes", "attributes are not flat texts and numbers; flagged: removed", False),
    Check("bad-label", "label is neither 0 nor 1; flagged: label removed", False),
    Check("repeated-id", "its user sent this event id before; the stream drops it too", True),
    Check("repeated-row", "equal in all but its id to an earlier one: sent twice, or a bot", False),
    Check("same-second", "one of many events of a user within a second: no hand does that", False),
    Check("regular-pace", "in a run of equal pauses: a timer, not a person", False),
    Check("few-events", "its user has fewer events than --min-events", False),
)
BIT: Final = {check.name: 1 << place for place, check in enumerate(CHECKS)}
BY_USER: Final = ("repeated-id", "repeated-row", "same-second", "regular-pace", "few-events")


class Actions(Struct, frozen=True):
    """Which checks drop their rows; the others flag them."""

    dropping: frozenset[str]

    @property
    def mask(self) -> int:
        """Bits of the checks that drop."""
        return sum(BIT[name] for name in self.dropping)


def actions(drop: Iterable[str], flag: Iterable[str]) -> Actions:
    """The defaults, changed by name. Raises Misconfigured."""
    dropped, flagged = set(drop), set(flag)
    for name in sorted(dropped | flagged):
        if name not in BIT:
            raise Misconfigured(f"there is no check {name}; there are {', '.join(BIT)}")
        if name in dropped and name in flagged:
            raise Misconfigured(f"{name}: either --drop or --flag it")
        if name in flagged and CHECKS[BIT[name].bit_length() - 1].always:
            raise Misconfigured(f"{name} rows can be no events: they cannot be flagged and kept")
    by_default = {check.name for check in CHECKS if check.drop}
    return Actions(frozenset(by_default - flagged | dropped))


def first_dropping(hits: int, chosen: Actions) -> str | None:
    """The check for which a row with these bits is dropped."""
    bits = hits & chosen.mask
    return CHECKS[(bits & -bits).bit_length() - 1].name if bits else None


def names_of(hits: int) -> str:
    """The checks of these bits, with commas between."""
    return ",".join(check.name for check in CHECKS if hits & BIT[check.name])
