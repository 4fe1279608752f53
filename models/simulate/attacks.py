"""Ten families of attacks, written against any `World`.

A family says which accounts do what; difficulty says how well they hide: in rhythm (clockwork,
then jitter, then a person's gaps), in camouflage (ordinary acts among the others), in accounts
(many with little each) and in time (minutes, hours, days). Every field but the item, the order and
the rhythm is drawn as honest people's fields are, so that none alone gives an attack away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from models.simulate.dice import Dice
from models.simulate.world import (
    CART,
    DIFFICULTIES,
    FAVOURITE,
    HOUR_MS,
    PURCHASE,
    Difficulty,
    Person,
    Script,
    Step,
    World,
)

Range = tuple[int, int]


class Part(Struct):
    """What one account is to do. Without gaps it gets those of the difficulty."""

    person: Person
    steps: list[Step]
    gaps_ms: list[float] | None = None
    camouflage: float = 0.0  # share of ordinary acts among all
    delay_ms: float = 0.0  # after a look-alike's start; a campaign draws it from its spread


class Raid:
    """One campaign in the making: what all families draw from."""

    def __init__(self, world: World, difficulty: Difficulty, place: str, start_ms: float) -> None:
        self.world, self.dice, self.place = world, world.dice, place
        self.start_ms = start_ms
        self.level = DIFFICULTIES.index(difficulty)
        dice = self.dice
        self.size = dice.log_between(0.25, 1.0)
        self.hidden = dice.between(*((0.0, 0.1), (0.15, 0.4), (0.3, 0.65))[self.level])
        # How often an item is one that hardly anybody looks at: people do that too, in thin feeds.
        self.obscure = dice.pick((0.0, 0.3, dice.uniform()))

    def some(self, *by_level: Range) -> int:
        """A number from the range of the difficulty; large ones vary with the campaign's size."""
        low, high = by_level[self.level] if len(by_level) > 1 else by_level[0]
        drawn = self.dice.whole(low, high)
        return drawn if high < 10 else max(2, round(drawn * self.size))

    def account(self) -> Person:
        return self.world.newcomer() if self.place == "new" else self.world.member()

    def item(self, category: int | None = None) -> int:
        if self.dice.chance(self.obscure):
            return self.world.any_item(category)
        return self.world.popular_item(category)

    def target(self) -> int:
        """An item that somebody gains from: of any popularity."""
        return self.world.any_item() if self.dice.chance(0.5) else self.world.popular_item()

    def visit(self, item: int) -> list[Step]:
        return self.world.visit(item)


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
_ONLY_REAL: Final = ("account_takeover", "credential_stuffing")
SPREAD_H: Final = {"easy": (0.05, 1.0), "medium": (1.0, 8.0), "hard": (6.0, 48.0)}


def draw_place(dice: Dice, family: str) -> str:
    """Whether a campaign uses accounts of its own or those of honest people."""
    if family in _ONLY_REAL:
        return "real"
    return "new" if dice.chance(0.8 if family == "coupon_abuse" else 0.55) else "real"


def campaign(
    world: World,
    family: str,
    difficulty: Difficulty,
    place: str,
    *,
    start_ms: float,
    pace: float = 1.0,
    max_events: int = 1_000_000,
) -> list[Script]:
    """The scripts of one campaign from `start_ms` on.

    `pace` stretches the time over which its accounts begin (1: minutes to two days, by difficulty);
    the rhythm of an account stays. Accounts beyond `max_events` are left out, all but the first.
    """
    dice = world.dice
    raid = Raid(world, difficulty, place, start_ms)
    spread_ms = dice.between(*SPREAD_H[difficulty]) * HOUR_MS * pace
    scripts: list[Script] = []
    events = 0
    for part in FAMILIES[family](raid):
        if not part.steps:
            continue
        steps = part.steps
        gaps = part.gaps_ms
        if gaps is None:
            steps = _camouflaged(world, part)[: max(max_events, 3)]
            gaps = gaps_ms(world, difficulty, len(steps))
        if scripts and events + len(steps) > max_events:
            break
        events += len(steps)
        at_ms = start_ms + dice.uniform() * spread_ms
        if difficulty == "hard":  # when people are about
            for _ in range(8):
                if dice.chance(world.bustle(at_ms)):
                    break
                at_ms = start_ms + dice.uniform() * spread_ms
        acts: list[tuple[float, Step]] = []
        for step, gap in zip(steps, gaps, strict=True):
            acts.append((at_ms, step))
            at_ms += gap
        scripts.append(Script(part.person, acts))
    return scripts


def _camouflaged(world: World, part: Part) -> list[Step]:
    """The steps with blocks of ordinary ones between them."""
    steps, share = list(part.steps), part.camouflage
    left = round(len(steps) * share / (1.0 - share))
    while left > 0:
        block = world.ordinary(part.person, min(left, world.dice.whole(1, 6)))
        left -= len(block)
        at = world.dice.whole(0, len(steps))
        steps[at:at] = block
    return steps


def gaps_ms(world: World, difficulty: Difficulty, n: int) -> list[float]:
    """Times between `n` acts: clockwork or haste, then loose jitter, then a person's."""
    dice = world.dice
    kind = dice.whole(0, 3)
    if difficulty == "easy":
        base = dice.log_between(300, 4_000)
        if kind == 0:
            return [base] * n
        if kind == 1:
            return [base * dice.between(0.5, 1.5) for _ in range(n)]
        if kind == 2:
            return [dice.exponential(base) for _ in range(n)]
        return [dice.pick((1_000.0, 2_000.0, 3_000.0, 5_000.0))] * n
    if difficulty == "medium":
        base = dice.log_between(4_000, 60_000)
        if kind == 0:
            sigma = dice.between(0.1, 0.8)
            return [dice.log_normal(base, sigma) for _ in range(n)]
        if kind == 1:
            return [base * dice.between(0.7, 1.3) for _ in range(n)]
        if kind == 2:
            return [dice.exponential(base) for _ in range(n)]
        return [min(world.gap_ms(), 60_000.0) * 0.5 for _ in range(n)]
    if kind == 0:  # slower than a person, on and on
        median, sigma = dice.log_between(15_000, 400_000), dice.between(0.7, 1.5)
        return [dice.log_normal(median, sigma) for _ in range(n)]
    # As people: sessions of a dozen acts and hours between them; or one session, if kind is 1.
    rest = 0.0 if kind == 1 else 1.0 / 12.0
    return [
        dice.log_between(0.5 * HOUR_MS, 16.0 * HOUR_MS) if dice.chance(rest) else world.gap_ms()
        for _ in range(n)
    ]
