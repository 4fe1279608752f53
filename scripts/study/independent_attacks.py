"""The independent simulator's campaigns: thirteen families, each at three levels.

`campaign` takes from a family as many events as it may, adds cover and chooses the moments. Easy
ones keep a machine's time within an hour or so; medium ones spread over half a day, with some
cover; hard ones have real pauses and moments, cover cut from real sittings, and mostly old
accounts, at times right behind what the owner does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from models.simulate.world import Difficulty
from scripts.study import independent_alone as alone
from scripts.study import independent_rings as rings
from scripts.study.independent_alone import Job, look
from scripts.study.independent_shop import FROM_S, TO_S, Act, Draw, Visit

Family = Callable[[Job], Iterator[Visit]]
ALONE: Final[tuple[Family, ...]] = (
    alone.catalogue_harvest,
    alone.stock_hold,
    alone.price_watch,
    alone.taken_over,
    alone.stolen_cards,
)
MANY: Final[tuple[Family, ...]] = (
    rings.rank_clicks,
    rings.order_brushing,
    rings.favourite_push,
    rings.pair_poisoning,
    rings.session_replay,
    rings.slow_drip,
    rings.welcome_bonus,
    rings.release_sniping,
)
FAMILIES: Final = {family.__name__: family for family in ALONE + MANY}


def campaign(draw: Draw, name: str, level: Difficulty, size: int) -> tuple[str, list[Act]]:
    """Exactly `size` events of the family, and whose accounts they came by: new or real."""
    place = _place(draw, name, level)
    family = FAMILIES[name]
    share = {"easy": 0.2, "medium": 0.35, "hard": 0.5}[level]
    heads = int(share * size) if family in MANY else {"easy": 1, "medium": 2, "hard": 3}[level]
    heads = max(2 if family in MANY else 1, heads)
    crew = [draw.regular() if place == "real" else draw.newcomer() for _ in range(heads)]
    acts: list[Act] = []
    last_s = _opening(draw, level)
    for visit in family(Job(draw, level, crew)):
        if len(acts) >= size:
            break
        visit.steps = visit.steps[: size - len(acts)]
        ride_s = _ride(draw, visit, level, place)
        if ride_s is None and visit.at_s is None:
            _cover(draw, visit, level, size - len(acts) - len(visit.steps))
        gaps = _gaps(draw, visit, level)
        at_s = visit.at_s if ride_s is None else ride_s
        if at_s is None:
            at_s = _moment(draw, visit, level, last_s, sum(gaps))
        placed = draw.acts(visit, at_s, gaps)
        last_s = placed[0].at_s if visit.wait_s is not None else placed[-1].at_s
        acts += placed
    return place, acts


def _place(draw: Draw, name: str, level: Difficulty) -> str:
    real = {"easy": 0.3, "medium": 0.5, "hard": 0.8}[level]
    if name == "taken_over":
        real = 1.0
    elif name == "welcome_bonus":  # old accounts that never ordered, at best
        real /= 2
    return "real" if draw.chance(real) else "new"


def _opening(draw: Draw, level: Difficulty) -> float:
    """When the campaign begins: a simple script at any hour, others when people are about."""
    return float(draw.rng.uniform(FROM_S, TO_S - 6 * 3600)) if level == "easy" else draw.start()


def _ride(draw: Draw, visit: Visit, level: Difficulty, place: str) -> float | None:
    """Something on the owner's own device acts while they shop; else None."""
    free = visit.at_s is None and visit.wait_s is None and len(visit.steps) <= 4
    rides = free and level == "hard" and place == "real" and draw.chance(0.35)
    return draw.riding(visit.user) if rides else None


def _cover(draw: Draw, visit: Visit, level: Difficulty, room: int) -> None:
    """Puts harmless acts before the visit's own, and at times after them."""
    share = {"easy": 0.0, "medium": 0.5, "hard": 0.65}[level]
    size = min(room, draw.between(1, len(visit.steps) + 1), 4)
    if size < 1 or visit.gaps is not None or not draw.chance(share):
        return
    if level == "medium":
        visit.steps = [*look(*(draw.pick(draw.shop.pool) for _ in range(size))), *visit.steps]
        return
    steps, gaps = draw.like_real(size)
    own = draw.pauses(len(visit.steps))
    if draw.chance(0.6):
        visit.steps, visit.gaps = [*steps, *visit.steps], [*gaps, *own]
    else:
        visit.steps, visit.gaps = [*visit.steps, *steps], [*own, *gaps]


def _gaps(draw: Draw, visit: Visit, level: Difficulty) -> list[float]:
    if visit.gaps is not None:
        return visit.gaps[: len(visit.steps) - 1]
    size = len(visit.steps) - 1
    if level == "easy":
        pace = draw.between(1, 6)
        return [float(pace)] * size
    return [draw.near(18, 0.5) for _ in range(size)] if level == "medium" else draw.pauses(size)


def _moment(draw: Draw, visit: Visit, level: Difficulty, last_s: float, lasts_s: float) -> float:
    """When the visit begins, if neither it nor the owner says so."""
    if visit.wait_s is not None and last_s + visit.wait_s + lasts_s < TO_S:
        return last_s + visit.wait_s
    if level == "easy":
        return last_s + 20 if last_s + 20 + lasts_s < TO_S else _opening(draw, level)
    if level == "medium":
        at_s = last_s + draw.near(1500, 0.8)
        return at_s if at_s + lasts_s < TO_S else draw.start()
    for _ in range(20):
        at_s = draw.start()
        if draw.idle(visit.user, at_s, at_s + lasts_s):
            break
    return at_s


def schedule(draw: int, campaigns: int) -> Sequence[tuple[str, Difficulty]]:
    """Which families at which levels: every pairing has its turn, over the draws."""
    levels: tuple[Difficulty, ...] = ("easy", "medium", "hard")
    pairs = [(name, level) for name in FAMILIES for level in levels]
    first = draw * campaigns
    return [pairs[(first + n) * 7 % len(pairs)] for n in range(campaigns)]
