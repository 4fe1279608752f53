"""A family's parts as scripts in time: rhythm, camouflage and spread by difficulty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.simulate.attacks import FAMILIES
from models.simulate.dice import Dice
from models.simulate.raid import Part, Raid
from models.simulate.world import DIFFICULTIES, HOUR_MS, Difficulty, Script, Step, World

_ONLY_REAL: Final = ("account_takeover", "credential_stuffing")
_MIXED: Final = 0.4  # of varied campaigns
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
    varied: bool = False,
    mixed_with: Sequence[str] = (),
) -> list[Script]:
    """The scripts of one campaign from `start_ms` on.

    `pace` stretches the time over which its accounts begin (1: minutes to two days, by difficulty);
    the rhythm of an account stays. Accounts beyond `max_events` are left out, all but the first.
    `varied`: sizes, rhythm, camouflage and spread are drawn for themselves, whatever the
    difficulty, and some accounts do what one of `mixed_with` does as well; to learn from alone.
    """
    dice = world.dice
    raid = Raid(world, difficulty, place, start_ms, varied=varied)
    rhythm = dice.pick(DIFFICULTIES) if varied else difficulty
    spread_ms = dice.between(*SPREAD_H[rhythm]) * HOUR_MS * pace
    scripts: list[Script] = []
    events = 0
    for part in _parts(raid, family, mixed_with if varied else ()):
        if not part.steps:
            continue
        steps = part.steps
        gaps = part.gaps_ms
        if gaps is None:
            steps = _camouflaged(world, part)[: max(max_events, 3)]
            gaps = gaps_ms(world, rhythm, len(steps))
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


def _parts(raid: Raid, family: str, mixed_with: Sequence[str]) -> list[Part]:
    """What the accounts do; of a mixture, at times with the steps of another family among it."""
    parts = FAMILIES[family](raid)
    if mixed_with and raid.dice.chance(_MIXED):
        others = FAMILIES[raid.dice.pick(mixed_with)](raid)
        for part, other in zip(parts, others, strict=False):
            at = raid.dice.whole(0, len(part.steps))
            part.steps = [*part.steps[:at], *other.steps, *part.steps[at:]]
            part.gaps_ms = None
    return parts


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
