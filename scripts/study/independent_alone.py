"""The independent simulator's attacks by one account, or by a few that take turns.

A family is an endless row of visits; `independent_attacks` takes as many as it needs from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from models.simulate.world import Difficulty
from scripts.study.independent_shop import Draw, Step, Visit


class Job(Struct):
    """What a family is asked for."""

    draw: Draw
    level: Difficulty
    crew: list[str]

    def by_level(self, easy: float, medium: float, hard: float) -> float:
        return {"easy": easy, "medium": medium, "hard": hard}[self.level]

    def accounts(self) -> Iterator[str]:
        """In turn; shuffled anew each round unless a simple script does it."""
        while True:
            crew = self.crew
            yield from crew if self.level == "easy" else self.draw.some(crew, len(crew))


def look(*items: str) -> list[Step]:
    return [Step("browse", item) for item in items]


def catalogue_harvest(job: Job) -> Iterator[Visit]:
    """Reads the catalogue; a careful one walks as people do, yet never comes back."""
    draw = job.draw
    seen: set[str] = set()
    shelf = draw.middling()
    for user in job.accounts():
        if job.level == "hard":
            sitting = draw.template(5)[:12]
            steps = [Step(act.type, draw.sibling(act.item)) for act in sitting]
            steps = [s for n, s in enumerate(steps) if s.item not in seen and s not in steps[:n]]
            gaps = draw.pauses(len(steps))
        else:
            stay = job.level == "easy" or draw.chance(0.4)
            shelf = shelf if stay else draw.middling()
            items = [item for item in draw.siblings(shelf, 25) if item not in seen][:10]
            steps = look(*(sorted(items, key=int) if job.level == "easy" else items))
            if steps and job.level == "medium" and draw.chance(0.4):
                steps.append(Step("cart", steps[-1].item))
            gaps = None
        shelf = shelf if steps else draw.middling()
        seen.update(step.item for step in steps)
        if steps:
            yield Visit(user, steps, gaps)


def stock_hold(job: Job) -> Iterator[Visit]:
    """Keeps goods in baskets so that others cannot buy them, and never pays."""
    draw = job.draw
    held = [draw.target(job.level) for _ in range(int(job.by_level(1, 2, 3)))]
    for user in job.accounts():
        item = draw.pick(held)
        if job.level == "easy":
            yield Visit(user, [Step("cart", item)], wait_s=900.0)
        elif job.level == "medium":
            steps = [*look(item), Step("cart", item)]
            yield Visit(user, steps, wait_s=draw.near(1800, 0.35))
        else:
            steps = look(draw.sibling(item), item)
            steps += look(item) if draw.chance(0.3) else [Step("cart", item)]
            yield Visit(user, steps)


def price_watch(job: Job) -> Iterator[Visit]:
    """A rival's bot looks at the same few items again and again."""
    draw = job.draw
    first = draw.target(job.level)
    watched = [first, *draw.siblings(first, int(job.by_level(3, 4, 6)))]
    for user in job.accounts():
        if job.level == "easy":
            yield Visit(user, look(*watched), wait_s=1800.0)
        elif job.level == "medium":
            steps = look(*draw.some(watched, draw.between(2, 4)))
            yield Visit(user, steps, wait_s=draw.near(5400, 0.3))
        else:
            yield Visit(user, look(*draw.some(watched, draw.between(1, 3))))


def taken_over(job: Job) -> Iterator[Visit]:
    """Somebody else has the password, and turns the account into goods."""
    draw = job.draw
    for user in job.accounts():
        steps: list[Step] = []
        if job.level == "easy":
            for item in (draw.pick(draw.shop.pool) for _ in range(4)):
                steps += [Step("cart", item), Step("purchase", item)]
        elif job.level == "medium":
            for item in (draw.pick(draw.shop.pool) for _ in range(draw.between(2, 3))):
                steps += [*look(item), Step("cart", item), Step("purchase", item)]
        else:
            item = draw.sibling(draw.pick(draw.owner_items(user)))
            other = draw.sibling(item)
            steps = look(other, item, draw.sibling(item), item)
            steps += [Step("cart", item)] if draw.chance(0.5) else []
            steps += [Step("purchase", item)]
        yield Visit(user, steps)


def stolen_cards(job: Job) -> Iterator[Visit]:
    """Tries card numbers on small orders."""
    draw = job.draw
    cheap = [draw.target(job.level) for _ in range(int(job.by_level(1, 4, 8)))]
    for user in job.accounts():
        if job.level == "easy":
            yield Visit(user, [Step("purchase", cheap[0])] * draw.between(5, 8))
        elif job.level == "medium":
            items = draw.some(cheap, draw.between(1, 3))
            yield Visit(user, [s for i in items for s in (*look(i), Step("purchase", i))])
        else:
            item = draw.pick(cheap)
            around = look(*draw.siblings(item, draw.between(1, 3)), item)
            yield Visit(user, [*around, Step("purchase", item)])
