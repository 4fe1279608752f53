"""When the next campaign starts, so that its kind of events keeps near its share of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

_FAR: Final = 20  # horizons; what is due later than that is not counted as pending


class Quota:
    """Counts events of one kind by the time they are due.

    `horizon_ms` is how far ahead campaigns are planned; a short one follows the share closely, a
    long one leaves room for campaigns that are spread in time.
    """

    def __init__(self, share: float, start_ms: float, horizon_ms: float) -> None:
        self._share, self._horizon_ms = share, horizon_ms
        self._bin_ms = horizon_ms / 4.0
        self._due = 0  # events up to and including the bin `_next`
        self._bins: Counter[int] = Counter()  # events of later bins
        self._next = self._bin(start_ms)

    def _bin(self, at_ms: float) -> int:
        return int(at_ms / self._bin_ms)

    def plan(self, times_ms: Iterable[float]) -> None:
        """Take events into account that have been scheduled."""
        for at_ms in times_ms:
            place = self._bin(at_ms)
            if place <= self._next:
                self._due += 1
            else:
                self._bins[place] += 1

    def lacking(self, now_ms: float, expected: float) -> float:
        """How many events are missing until a horizon from now, of `expected` of all kinds."""
        last = self._bin(now_ms + self._horizon_ms)
        while self._next < last:
            self._next += 1
            self._due += self._bins.pop(self._next, 0)
        return self._share * expected - self._due

    def crowded(self, per_ms: float) -> bool:
        """Whether so much is pending already that what comes next should be over soon.

        `per_ms`: events of all kinds in a millisecond.
        """
        pending = sum(n for place, n in self._bins.items() if place < self._next + 4 * _FAR)
        return pending > self._share * per_ms * self._horizon_ms * _FAR * 0.5
