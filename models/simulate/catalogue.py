"""What a shop sells: items in categories, prices, popularity, and the words people search with."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from models.simulate.dice import Dice

_ONSETS: Final = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "ch", "st")
_VOWELS: Final = ("a", "e", "i", "o", "u", "ai", "ou")
QUERIES_PER_CATEGORY: Final = 12


class Ids:
    """Ids without meaning: neither length nor value tells when or for whom one was made."""

    __slots__ = ("_add", "_factor", "_hex")

    _RANGE: Final = 900_000_001  # no small divisor in common with the factors: never one id twice

    def __init__(self, dice: Dice, *, hexadecimal: bool) -> None:
        factor = dice.whole(100_000_000, 899_999_999)
        while np.gcd(factor, self._RANGE) != 1:
            factor += 1
        self._factor = factor
        self._add = dice.whole(0, self._RANGE - 1)
        self._hex = hexadecimal

    def __getitem__(self, number: int) -> str:
        """The id of the `number`-th thing."""
        value = (number * self._factor + self._add) % self._RANGE
        return f"{value + 0x10000000:08x}" if self._hex else str(value + 100_000_000)


class Catalogue:
    """`items` items in `categories` categories; popularity by Zipf within and across them."""

    def __init__(self, rng: np.random.Generator, dice: Dice, items: int, categories: int) -> None:
        category_weight = _zipf(rng, categories, dice.between(0.5, 0.9))
        sizes = 1 + rng.multinomial(items - categories, category_weight)
        self.first = np.concatenate([[0], np.cumsum(sizes)]).tolist()  # item range of a category
        self.category = np.repeat(np.arange(categories), sizes).tolist()
        exponent = dice.between(0.5, 1.0)
        weights = np.concatenate(
            [w * _zipf(rng, n, exponent) for w, n in zip(category_weight, sizes, strict=True)]
        )
        self._cumulative = np.cumsum(weights).tolist()
        level = rng.normal(3.2, 1.0, categories)  # logarithm of the median price
        spread = rng.uniform(0.3, 0.9, categories)
        price = np.exp(np.repeat(level, sizes) + np.repeat(spread, sizes) * rng.normal(size=items))
        self.price = np.maximum(np.round(price, 2), 0.5).tolist()
        self._queries = [_queries(dice) for _ in range(categories)]

    def popular(self, dice: Dice, category: int | None = None) -> int:
        """An item, drawn by popularity."""
        cumulative = self._cumulative
        if category is None:
            last = len(cumulative) - 1
            return bisect_right(cumulative, dice.uniform() * cumulative[-1], 0, last)
        low, high = self.first[category], self.first[category + 1] - 1
        before = cumulative[low - 1] if low else 0.0
        at = before + dice.uniform() * (cumulative[high] - before)
        return bisect_right(cumulative, at, low, high)

    def any(self, dice: Dice, category: int | None = None) -> int:
        """An item, drawn evenly."""
        if category is None:
            return dice.whole(0, len(self.price) - 1)
        return dice.whole(self.first[category], self.first[category + 1] - 1)

    def query(self, dice: Dice, category: int) -> str:
        """What somebody types who wants something of this category; the first is the commonest."""
        queries = self._queries[category]
        return queries[int(len(queries) * dice.uniform() ** 2)]


def _zipf(
    rng: np.random.Generator, n: int, exponent: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    rng.shuffle(weights)  # the order of items says nothing
    weights /= weights.sum()
    return weights


def _word(dice: Dice) -> str:
    return "".join(dice.pick(_ONSETS) + dice.pick(_VOWELS) for _ in range(dice.whole(2, 3)))


def _queries(dice: Dice) -> list[str]:
    nouns = [_word(dice) for _ in range(3)]
    found: list[str] = []
    for _ in range(QUERIES_PER_CATEGORY):
        words = [dice.pick(nouns)]
        words += [_word(dice) for _ in range(dice.whole(0, 2))]
        found.append(" ".join(words))
    return found
