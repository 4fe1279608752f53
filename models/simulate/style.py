"""What a shop logs and how its people behave: drawn anew for each simulation.

A model that is to work on feeds it never saw must not learn one shop by heart.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from models.simulate.dice import Dice


class ShopStyle(Struct, frozen=True, kw_only=True):
    """Switches: which events and fields a shop's feed has."""

    searches: bool = True  # logs `search`
    clicks: bool = True  # logs `click` in result lists; otherwise every look is a page view
    page_view: str = "browse"  # how a look at an item's page is called: browse or click
    carts: bool = True
    favourites: bool = True
    prices: bool = True
    positions: bool = True
    queries: bool = True
    quantities: bool = True
    categories: bool = True
    sessions: bool = False  # logs `session_id`
    granularity_ms: int = 1  # event times are multiples of it
    hex_ids: bool = False  # ids in hexadecimal instead of digits


STYLES: Final[dict[str, ShopStyle]] = {
    "full": ShopStyle(sessions=True),
    "lists": ShopStyle(searches=False, favourites=False, hex_ids=True),
    "taobao": ShopStyle(
        searches=False,
        clicks=False,
        prices=False,
        positions=False,
        queries=False,
        quantities=False,
        granularity_ms=1000,
    ),
    "rees46": ShopStyle(
        searches=False,
        clicks=False,
        favourites=False,
        positions=False,
        queries=False,
        quantities=False,
        sessions=True,
        granularity_ms=1000,
    ),
    "clickstream": ShopStyle(
        searches=False,
        clicks=False,
        page_view="click",
        carts=False,
        favourites=False,
        positions=False,
        queries=False,
    ),
}


def draw_style(dice: Dice) -> ShopStyle:
    """A named style half of the time, a random one otherwise."""
    if dice.chance(0.5):
        return STYLES[dice.pick(sorted(STYLES))]
    clicks = dice.chance(0.6)
    return ShopStyle(
        clicks=clicks,
        searches=clicks and dice.chance(0.6),
        positions=clicks and dice.chance(0.7),
        queries=clicks and dice.chance(0.7),
        carts=dice.chance(0.85),
        favourites=dice.chance(0.5),
        prices=dice.chance(0.6),
        quantities=dice.chance(0.6),
        categories=dice.chance(0.9),
        sessions=dice.chance(0.4),
        granularity_ms=dice.pick((1, 1000)),
        hex_ids=dice.chance(0.3),
    )


class Habits(Struct, frozen=True, kw_only=True):
    """How the people of one shop behave on average."""

    gap_s: float = 11.0  # median between two acts in a session
    gap_sigma: float = 1.0  # its spread, in logarithms
    hasty: float = 0.2  # share of gaps of a second or two
    pauses: float = 0.04  # share of gaps of minutes
    goals: float = 1.5  # things looked for in a session, mean
    looks: float = 4.5  # items looked at for one of them, mean
    explore: float = 0.2  # share of goals outside one's tastes
    revisit: float = 0.22  # share of looks at something seen before
    compares: float = 0.2  # share of goals that end with going back and forth between two items
    search: float = 0.6  # share of goals that begin with a search
    favourite: float = 0.03  # by look
    cart: float = 0.05  # by look
    buy_now: float = 0.012  # by look
    checkout: float = 0.2  # by session, if there is something in the cart
    returns: float = 0.3  # share of sessions that follow one of the same person within hours
    reloads: float = 0.03  # share of looks sent twice
    zone_h: float = 0.0  # where most customers live, hours ahead of UTC


def draw_habits(dice: Dice) -> Habits:
    """The ranges hold what Taobao and REES46 show: gaps, purchases, looks at an item again."""
    return Habits(
        gap_s=dice.log_between(8, 60),
        gap_sigma=dice.between(0.8, 1.2),
        hasty=dice.log_between(0.02, 0.3),
        pauses=dice.between(0.02, 0.1),
        goals=dice.between(1.1, 2.2),
        looks=dice.log_between(2.5, 8),
        explore=dice.between(0.1, 0.35),
        revisit=dice.between(0.02, 0.25),
        compares=dice.between(0.02, 0.25),
        search=dice.between(0.3, 0.85),
        favourite=dice.log_between(0.005, 0.05),
        cart=dice.log_between(0.01, 0.1),
        buy_now=dice.log_between(0.002, 0.02),
        checkout=dice.log_between(0.04, 0.4),
        returns=dice.between(0.15, 0.5),
        reloads=dice.between(0.0, 0.06),
        zone_h=float(dice.whole(-8, 10)),
    )
