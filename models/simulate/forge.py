"""New ids in the manner of known ones."""

from __future__ import annotations

from collections.abc import Sequence

from models.simulate.dice import Dice


class Forge:
    """New ids that look like those there are, and are none of them.

    Ids that number things without a gap cannot be imitated: new ones then lie past the last.
    """

    def __init__(self, dice: Dice, known: Sequence[str]) -> None:
        self._dice, self._known, self._taken = dice, known, set(known)

    def make(self) -> str:
        dice = self._dice
        reach = 5_000
        while True:
            like = dice.pick(self._known) if self._known else "100000000"
            if like.isdigit():
                made = str(max(1, int(like) + dice.whole(-reach, reach))).zfill(len(like))
                reach += 500
            else:
                head, tail = like[:-10], like[-10:]
                made = head + "".join(self._another(c) for c in tail)
            if made not in self._taken:
                self._taken.add(made)
                return made

    def _another(self, char: str) -> str:
        if char.isdigit():
            return self._dice.pick("0123456789")
        if char in "abcdef":
            return self._dice.pick("abcdef")
        return char if not char.isalpha() else self._dice.pick("ghijklmnopqrstuvwxyz")
