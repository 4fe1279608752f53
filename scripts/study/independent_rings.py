"""The independent simulator's attacks by many accounts that serve one purpose."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from scripts.study.independent_alone import Job, look
from scripts.study.independent_shop import Draw, Step, Visit

RELEASE_S: Final = 3600  # shops release scarce goods on the hour


def rank_clicks(job: Job) -> Iterator[Visit]:
    """A click farm lifts an item in the lists: look at rivals, stay with the customer's item."""
    draw = job.draw
    item = draw.target(job.level)
    for user in job.accounts():
        if job.level == "easy":
            yield Visit(user, look(item, item))
        elif job.level == "medium":
            steps = look(draw.sibling(item), item)
            yield Visit(user, [*steps, Step("favourite", item)] if draw.chance(0.4) else steps)
        else:
            steps = [*look(*draw.siblings(item, draw.between(1, 3))), *look(item)]
            if draw.chance(0.15):
                steps.append(Step("cart", item))
            elif draw.chance(0.3):
                steps += look(draw.sibling(item))
            yield Visit(user, steps)


def order_brushing(job: Job) -> Iterator[Visit]:
    """A ring orders from the seller who pays it, after the usual show of comparing goods."""
    draw = job.draw
    first = draw.target(job.level)
    goods = [first, *draw.siblings(first, int(job.by_level(0, 1, 2)))]
    for user in job.accounts():
        item = draw.pick(goods)
        if job.level == "easy":
            yield Visit(user, [*look(item), Step("purchase", item)])
        elif job.level == "medium":
            steps = look(draw.sibling(item), item)
            yield Visit(user, [*steps, Step("cart", item), Step("purchase", item)])
        else:
            keep = Step("favourite" if draw.chance(0.4) else "cart", item)
            rivals = draw.siblings(item, draw.between(1, 3))
            yield Visit(user, [*look(*rivals, item), *([keep] if draw.chance(0.6) else [])])
            steps = [*look(item), Step("purchase", item)]
            yield Visit(user, steps, wait_s=draw.near(9000, 0.8))


def favourite_push(job: Job) -> Iterator[Visit]:
    """Favourites and baskets by the dozen, so that items rise within their category."""
    draw = job.draw
    first = draw.target(job.level)
    pushed = [first, *draw.siblings(first, 2)]
    for user in job.accounts():
        if job.level == "easy":
            yield Visit(user, [Step("favourite", item) for item in pushed])
        elif job.level == "medium":
            item = draw.pick(pushed)
            kind = "favourite" if draw.chance(0.7) else "cart"
            yield Visit(user, [*look(item), Step(kind, item)])
        else:
            item = draw.pick(pushed)
            steps = [*look(draw.sibling(item), item)]
            steps.append(Step("favourite" if draw.chance(0.7) else "cart", item))
            if draw.chance(0.25):  # a decoy
                other = draw.sibling(item)
                steps += [*look(other), Step("favourite", other)]
            yield Visit(user, steps)


def pair_poisoning(job: Job) -> Iterator[Visit]:
    """Teaches the recommender that who saw the known item wants the unknown one."""
    draw = job.draw
    item = draw.target(job.level)
    anchors = [draw.anchor(job.level) for _ in range(int(job.by_level(1, 2, 4)))]
    for user in job.accounts():
        anchor = draw.pick(anchors)
        if job.level == "easy":
            yield Visit(user, look(anchor, item, anchor, item))
        elif job.level == "medium":
            steps = look(anchor, item)
            yield Visit(user, [*steps, Step("cart", item)] if draw.chance(0.3) else steps)
        else:
            between, _ = draw.like_real(draw.between(1, 2))
            yield Visit(user, [*look(anchor), *between, *look(item)])


def session_replay(job: Job) -> Iterator[Visit]:
    """Recorded sittings of other people, sent again with the customer's item among them."""
    draw = job.draw
    item = draw.target(job.level)
    tape = draw.template(6)[:14]
    for user in job.accounts():
        if job.level == "hard":
            tape = draw.template(4)[:9]
        gaps = [float(b.at_s - a.at_s) for a, b in pairwise(tape)]
        steps = [Step(act.type, act.item) for act in tape]
        if job.level != "easy":
            gaps = [draw.near(gap, 0.25) for gap in gaps]
            steps = [s for s in steps if draw.chance(0.85)] or steps
        if job.level == "hard":
            steps = [Step(s.type, draw.sibling(s.item)) if draw.chance(0.4) else s for s in steps]
        where = draw.between(1, len(steps))
        gaps += draw.pauses(len(steps) + 1 - len(gaps))
        yield Visit(user, [*steps[:where], *look(item), *steps[where:]], gaps)


def slow_drip(job: Job) -> Iterator[Visit]:
    """Promotes at a trickle: one glance an account, rarely more."""
    draw = job.draw
    item = draw.target(job.level)
    for user in job.accounts():
        if job.level == "easy":
            yield Visit(user, look(item), wait_s=1800.0)
        else:
            more = draw.chance(0.25)
            kind = "favourite" if draw.chance(0.5) else "cart"
            steps = [*look(item), Step(kind, item)] if more else look(item)
            wait_s = draw.near(4500, 0.5) if job.level == "medium" else None
            yield Visit(user, steps, wait_s=wait_s)


def welcome_bonus(job: Job) -> Iterator[Visit]:
    """Each account takes the present for its first order, and is left."""
    draw = job.draw
    gifts = [draw.target(job.level) for _ in range(int(job.by_level(1, 3, 6)))]
    for user in job.accounts():
        item = draw.pick(gifts)
        if job.level == "easy":
            yield Visit(user, [*look(item), Step("purchase", item)], [5.0])
        elif job.level == "medium":
            yield Visit(user, [*look(draw.sibling(item), item), Step("purchase", item)])
        else:
            item = draw.sibling(item)
            steps = look(*draw.siblings(item, 2), item)
            steps += [Step("cart", item)] if draw.chance(0.4) else look(item)
            yield Visit(user, [*steps, Step("purchase", item)])


def release_sniping(job: Job) -> Iterator[Visit]:
    """Resellers' accounts wait for a release and are first at the till."""
    draw = job.draw
    item = draw.target(job.level)
    opening = _release(draw)
    for user in job.accounts():
        if job.level == "easy":
            steps = [Step("cart", item), Step("purchase", item)]
            yield Visit(user, steps, [1.0], at_s=opening + draw.between(0, 3))
        elif job.level == "medium":
            steps = [*look(item), Step("cart", item), Step("purchase", item)]
            yield Visit(user, steps, at_s=opening + draw.between(2, 300))
        else:
            if draw.chance(0.2):
                opening = _release(draw)
                item = draw.target(job.level)
            ahead, gaps = draw.like_real(draw.between(2, 4))
            steps = [*ahead, *look(item), Step("purchase", item)]
            gaps = [*gaps, *draw.pauses(len(ahead) - 1 - len(gaps))]
            at_s = opening + draw.between(5, 90) - sum(gaps)
            yield Visit(user, steps, [*gaps, *draw.pauses(2)], at_s=at_s)


def _release(draw: Draw) -> int:
    return int(draw.start()) // RELEASE_S * RELEASE_S
