"""What attacks and look-alikes need of a shop, be it simulated or recorded.

Items and categories are numbers here; their ids appear only when a step becomes an event.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from msgspec import Struct

from models.simulate.dice import Dice

BROWSE: Final = "browse"
CLICK: Final = "click"
SEARCH: Final = "search"
CART: Final = "cart"
FAVOURITE: Final = "favourite"
PURCHASE: Final = "purchase"

Difficulty = Literal["easy", "medium", "hard"]
DIFFICULTIES: Final[tuple[Difficulty, ...]] = ("easy", "medium", "hard")
HOUR_MS: Final = 3_600_000
SESSION_BREAK_MS: Final = 30 * 60 * 1000


class Step(Struct, frozen=True, gc=False):
    """One act, before it has a user and a time."""

    type: str
    item: int = -1  # none
    query: str | None = None
    position: int | None = None
    quantity: int = 1
    discount: float = 1.0  # share of the item's usual price that is paid
    source: int = -1  # event of a recorded file that it copies, if it must be that one


Timed = tuple[float, Step]  # ms since the act before it, and the act


class Person(Struct, gc=False):
    """A user of the shop and what they remember. The one mutable thing here."""

    user_id: str
    tastes: list[int]  # categories, the dearest first
    pace: float = 1.0  # their gaps relative to the shop's
    thrift: float = 1.0  # their purchases relative to the shop's; above 1 buys more
    hour: float = 12.0  # of the day, UTC, when they like to shop
    seen: list[int] = []  # items, newest last
    cart: list[int] = []
    sessions: int = 0
    busy_until_ms: float = 0.0  # no further session of their own before that


class Label(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The truth about one event. Everything that an attack's script sends is labelled 1."""

    event_id: str
    label: int  # 1: part of an attack; written even where it is 0
    attack: str | None = None  # family
    difficulty: Difficulty | None = None
    campaign: str | None = None  # its events, over all its accounts; never shared
    place: str | None = None  # new: accounts of its own; real: inside honest users' histories
    look_alike: str | None = None  # kind of honest behaviour that resembles an attack


class Simulated(Struct, frozen=True):
    """An event as the contract has it on the wire, and its label."""

    event: dict[str, object]
    label: Label


class Script(Struct, frozen=True):
    """Acts of one account, ascending in time."""

    person: Person
    acts: list[tuple[float, Step]]  # epoch ms, act


class World(Protocol):
    """A shop with people in it."""

    @property
    def dice(self) -> Dice: ...

    def logs(self, event_type: str) -> bool:
        """Whether the shop logs such events at all."""
        ...

    def popular_item(self, category: int | None = None) -> int:
        """An item, drawn by its traffic, in the whole shop or one category."""
        ...

    def any_item(self, category: int | None = None) -> int:
        """An item drawn evenly from all that exist; most of them hardly anybody looks at."""
        ...

    def category_of(self, item: int) -> int: ...

    def visit(self, item: int) -> list[Step]:
        """How a person reaches an item's page: search and click, or just its page."""
        ...

    def act(self, event_type: str, item: int, quantity: int | None = None) -> Step:
        """An act on an item; a look at it where the shop does not log that type."""
        ...

    def gap_ms(self) -> float:
        """Between two acts of a person within a session."""
        ...

    def ordinary(self, person: Person, n: int) -> list[Step]:
        """`n` acts in a row as this person would do them."""
        ...

    def newcomer(self) -> Person:
        """Somebody whom the shop has never seen."""
        ...

    def member(self) -> Person:
        """Somebody with a history, drawn by activity."""
        ...

    def recording(self, before_ms: float) -> list[Timed]:
        """What an honest person did in a session before that time, at least a few acts."""
        ...

    def bustle(self, at_ms: float) -> float:
        """Traffic at that time of day and week, relative to the busiest: 0 to 1."""
        ...
