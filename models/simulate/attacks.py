"""Ten families of attacks, written against any `World`.

A family says which accounts do what; difficulty says how well they hide: in rhythm (clockwork,
then jitter, then a person's gaps), in camouflage (ordinary acts among the others), in accounts
(many with little each) and in time (minutes, hours, days). Every field but the item, the order and
the rhythm is drawn as honest people's fields are, so that none alone gives an attack away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from models.simulate.raid import Part, Raid
from models.simulate.world import CART, FAVOURITE, PURCHASE, Step


def click_fraud(raid: Raid) -> list[Part]:
    """Looks at a few items, to push them or to burn a rival's budget."""
    targets = [raid.target() for _ in range(raid.dice.whole(1, 3))]
    parts = []
    for _ in range(raid.some((1, 3), (4, 14), (12, 35))):
        steps: list[Step] = []
        for _ in range(raid.some((30, 120), (8, 22), (2, 5))):
            steps += raid.visit(raid.dice.pick(targets))
        parts.append(Part(raid.account(), steps, camouflage=raid.hidden))
    return parts


def scraping(raid: Raid) -> list[Part]:
    """Walks through the catalogue or some categories, in order or shuffled among accounts."""
    categories: list[int | None] = [
        raid.world.category_of(raid.world.popular_item())
        for _ in range(raid.some((1, 1), (1, 3), (2, 8)))
    ]
    if raid.dice.chance(0.4):
        categories = [None]
    parts = []
    for _ in range(raid.some((1, 2), (1, 4), (4, 10))):
        steps: list[Step] = []
        for _ in range(raid.some((80, 220), (40, 90), (12, 35))):
            steps += raid.visit(raid.item(raid.dice.pick(categories)))
        parts.append(Part(raid.account(), steps, camouflage=raid.hidden * 0.6))
    return parts


def brushing(raid: Raid) -> list[Part]:
    """Many accounts buy the same item to lift its rank, after some looking around."""
    targets = [raid.target() for _ in range(raid.dice.whole(1, 2))]
    parts = []
    for _ in range(raid.some((12, 30), (10, 25), (10, 25))):
        item = raid.dice.pick(targets)
        category = raid.world.category_of(item)
        steps: list[Step] = []
        for _ in range((0, raid.dice.whole(1, 3), raid.dice.whole(3, 10))[raid.level]):
            steps += raid.visit(raid.item(category if raid.dice.chance(0.6) else None))
        for _ in range(raid.dice.whole(1, 3)):
            steps += raid.visit(item)
        if raid.dice.chance(0.5):
            steps.append(raid.world.act(FAVOURITE, item))
        if raid.dice.chance(0.7):
            steps.append(raid.world.act(CART, item))
        steps.append(raid.world.act(PURCHASE, item))
        parts.append(Part(raid.account(), steps, camouflage=raid.hidden * 0.5))
    return parts


def cart_hoarding(raid: Raid) -> list[Part]:
    """Fills carts to take stock away, of one item or of many; nothing is bought."""
    count = raid.dice.whole(1, 3) if raid.dice.chance(0.5) else raid.dice.whole(10, 60)
    targets = [raid.target() for _ in range(count)]
    parts = []
    for _ in range(raid.some((1, 2), (3, 8), (8, 20))):
        steps: list[Step] = []
        for _ in range(raid.some((30, 90), (10, 25), (3, 7))):
            item = raid.dice.pick(targets)
            if raid.dice.chance((0.1, 0.4, 0.8)[raid.level]):
                steps += raid.visit(item)
            steps.append(raid.world.act(CART, item))
        parts.append(Part(raid.account(), steps, camouflage=raid.hidden))
    return parts


def coupon_abuse(raid: Raid) -> list[Part]:
    """Accounts made for a welcome offer: a look, a purchase, never seen again."""
    pool = [raid.target() for _ in range(raid.dice.whole(1, 6))]
    parts = []
    for _ in range(raid.some((20, 45), (15, 35), (12, 30))):
        item = raid.dice.pick(pool)
        steps: list[Step] = []
        for _ in range(raid.some((0, 1), (1, 2), (1, 4))):
            steps += raid.visit(item)
        if raid.level and raid.dice.chance(0.5):
            steps.append(raid.world.act(CART, item))
        steps.append(raid.world.act(PURCHASE, item))
        hidden = (0.0, 0.2, raid.hidden)[raid.level]
        parts.append(Part(raid.account(), steps, camouflage=hidden))
    return parts


def account_takeover(raid: Raid) -> list[Part]:
    """Somebody else is in a real account: other categories, other aims."""
    parts = []
    for _ in range(raid.dice.whole(1, 4)):
        person = raid.world.member()
        steps: list[Step] = []
        for _ in range(raid.some((15, 40), (8, 20), (5, 12))):
            for _ in range(10):
                item = raid.item()
                if raid.world.category_of(item) not in person.tastes:
                    break
            kind = raid.dice.whole(0, 5)
            steps += raid.visit(item) if kind < 3 else [_act(raid, item, kind)]
        parts.append(Part(person, steps, camouflage=(0.0, 0.0, 0.2)[raid.level]))
    return parts


def credential_stuffing(raid: Raid) -> list[Part]:
    """Many real accounts, opened by a list of passwords, do the same few things."""
    targets = [raid.target() for _ in range(raid.dice.whole(2, 6))]
    parts = []
    for _ in range(raid.some((15, 40), (12, 30), (10, 25))):
        steps: list[Step] = []
        for _ in range(raid.some((2, 4), (2, 5), (2, 5))):
            kind = raid.dice.whole(0, 5)
            item = raid.dice.pick(targets)
            steps += raid.visit(item) if kind < 4 else [_act(raid, item, kind)]
        hidden = raid.hidden if raid.level == 2 else 0.0
        parts.append(Part(raid.world.member(), steps, camouflage=hidden))
    return parts


def _act(raid: Raid, item: int, kind: int) -> Step:
    return raid.world.act({3: CART, 4: FAVOURITE}.get(kind, PURCHASE), item)


def ride_along(raid: Raid) -> list[Part]:
    """Looks at popular items and the target in turn, so that it is recommended beside them."""
    targets = [raid.target() for _ in range(raid.dice.whole(1, 2))]
    hot = [raid.world.popular_item() for _ in range(raid.dice.whole(1, 6))]
    parts = []
    for _ in range(raid.some((1, 3), (4, 10), (12, 25))):
        steps: list[Step] = []
        for _ in range(raid.some((15, 50), (4, 10), (1, 3))):
            steps += raid.visit(raid.dice.pick(hot)) + raid.visit(raid.dice.pick(targets))
        parts.append(Part(raid.account(), steps, camouflage=raid.hidden))
    return parts


def replay(raid: Raid) -> list[Part]:
    """Repeats what an honest person did, with jitter and some of it left out."""
    acts = raid.world.recording(raid.start_ms)
    for _ in range(raid.dice.whole(0, 3)):
        other = raid.world.recording(raid.start_ms)
        acts = max(acts, other, key=len)
    acts = acts[: raid.dice.whole(15, 60)]
    spread = (0.0, 0.15, 0.5)[raid.level]
    parts = []
    for _ in range(raid.dice.whole(*((2, 5), (1, 4), (1, 3))[raid.level])):
        person = raid.account()
        speed = (1.0, raid.dice.between(0.5, 1.5), raid.dice.between(0.5, 2.0))[raid.level]
        steps: list[Step] = []
        gaps: list[float] = []
        for _ in range(raid.dice.whole(1, 3)):  # one round after another
            kept = [a for a in acts if not raid.dice.chance((0.0, 0.1, 0.25)[raid.level])]
            steps += [step for _, step in kept]
            gaps += [gap * speed * raid.dice.log_normal(1.0, spread) for gap, _ in kept]
        parts.append(Part(person, steps, gaps))
    return parts


def composite(raid: Raid) -> list[Part]:
    """Any mix of acts, targets and accounts; at times one script that all accounts follow."""
    pool = [raid.target() for _ in range(raid.dice.pick((1, raid.dice.whole(1, 40))))]
    kinds = raid.dice.pick(
        ((), (CART,), (FAVOURITE,), (CART, PURCHASE), (FAVOURITE, CART, PURCHASE))
    )
    share = raid.dice.between(0.2, 0.6)

    def script() -> list[Step]:
        steps: list[Step] = []
        for _ in range(raid.some((15, 60), (5, 20), (2, 8))):
            item = raid.dice.pick(pool)
            if kinds and raid.dice.chance(share):
                steps.append(raid.world.act(raid.dice.pick(kinds), item))
            else:
                steps += raid.visit(item)
        return steps

    common = script() if raid.dice.chance(0.4) else None
    return [
        Part(raid.account(), list(common or script()), camouflage=raid.hidden)
        for _ in range(raid.some((1, 6), (2, 15), (5, 25)))
    ]


FAMILIES: Final[dict[str, Callable[[Raid], list[Part]]]] = {
    f.__name__: f
    for f in (
        click_fraud,
        scraping,
        brushing,
        cart_hoarding,
        coupon_abuse,
        account_takeover,
        credential_stuffing,
        ride_along,
        replay,
        composite,
    )
}
