"""What the families of attacks have in common: accounts, targets, sizes by difficulty."""

from __future__ import annotations

from msgspec import Struct

from models.simulate.world import DIFFICULTIES, Difficulty, Person, Step, World

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

    def __init__(
        self,
        world: World,
        difficulty: Difficulty,
        place: str,
        start_ms: float,
        *,
        varied: bool = False,
    ) -> None:
        self.world, self.dice, self.place = world, world.dice, place
        self.start_ms, self._varied = start_ms, varied
        self.level = DIFFICULTIES.index(difficulty)
        dice = self.dice
        self.size = dice.log_between(0.25, 1.0)
        self.hidden = dice.between(*((0.0, 0.1), (0.15, 0.4), (0.3, 0.65))[self.level])
        if varied:
            self.hidden = dice.between(0.0, 0.65)
        # How often an item is one that hardly anybody looks at: people do that too, in thin feeds.
        self.obscure = dice.pick((0.0, 0.3, dice.uniform()))

    def some(self, *by_level: Range) -> int:
        """A number from the range of the difficulty; large ones vary with the campaign's size."""
        level = self.dice.whole(0, 2) if self._varied else self.level
        low, high = by_level[level] if len(by_level) > 1 else by_level[0]
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
