"""The strongest baseline: trees on all aggregates and all scores without labels, then again with
what the look before said of earlier events.

    look 1    aggregates, scores without labels
    look 2    the same, and `look_back` of look 1
    look 3    the same, and `look_back` of look 2

The trees of a look must not read what trees said of events they were fitted to. So a look is made
by several folds, each of which judges users and campaigns that it did not learn from. A user keeps
its fold in every draw, and when it is judged later; of users that are new the folds' mean is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.baselines.boosting import Forest, Growth, gather
from models.baselines.detector import Draw, Judged
from models.baselines.look_back import look_back
from models.baselines.unlabelled import Unlabelled
from models.counters.aggregates import Memory
from models.dataset import Dataset
from models.trees import Flags, Table
from stream_app.core.window import Ints

# Fitted without labels here too: fitted to normal events alone, they would know those by heart, and
# the trees would trust them too much. Neighbours do in any case: an event is its own nearest.
UNLABELLED: Final = ("isolation-forest", "ecod", "hbos", "pca")

Columns = Callable[[Dataset], Table]  # (events of the data set, columns)


class Folds:
    """Which users a fold judges. Made from the users and campaigns of the events to fit on."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self._salt = count, f"{seed}:"
        self._of_user: dict[str, int] = {}

    def lot(self, data: Dataset, events: Ints) -> Ints:
        """(events,) anomalies by campaign, others by user."""
        campaigns = data.of("campaign")
        keys = [campaigns[at] or data.users[data.user[at]] for at in events.tolist()]
        known = {key: self._drawn(key) for key in set(keys)}
        return np.array([known[key] for key in keys], np.int64)

    def learn(self, data: Dataset, events: Ints) -> None:
        """Remember the fold that most of each user's events are judged by."""
        votes: dict[int, Counter[int]] = {}
        lots = self.lot(data, events)
        for user, lot in zip(data.user[events].tolist(), lots.tolist(), strict=True):
            votes.setdefault(user, Counter())[lot] += 1
        for user, counts in votes.items():
            self._of_user[data.users[user]] = counts.most_common(1)[0][0]

    def of_users(self, data: Dataset) -> Ints:
        """(events of `data`,) -1 for users that nothing was learnt of. Reads no labels."""
        return np.array([self._of_user.get(user, -1) for user in data.users], np.int64)[data.user]

    def _drawn(self, key: str) -> int:
        return xxhash.xxh3_64_intdigest((self._salt + key).encode()) % self.count


class Stack:
    labels = True

    def __init__(
        self, memory: Memory, seed: int, threads: int, *, growth: Growth | None = None,
        folds: int = 4, looks: int = 3, fits: int = 3, unlabelled: Sequence[str] = UNLABELLED,
        name: str = "stack", more: Columns | None = None,
    ) -> None:  # fmt: skip
        """`looks`: 1 is without a look back. `more`: further columns for every look."""
        self.name, self._more = name, more
        self._memory, self._seed, self._threads = memory, seed, threads
        self._growth, self._fits = growth or Growth(), fits
        self._folds = Folds(folds, seed)
        self._unlabelled = [Unlabelled(name, memory, seed, threads) for name in unlabelled]
        self._looks: list[list[Forest]] = [[] for _ in range(looks - 1)]
        self._last = Forest(self._growth, seed, threads, fits)

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self.fit_draws([Draw(data, fit_on, choose_on)])

    def fit_draws(self, draws: Sequence[Draw]) -> None:
        """Raises Misconfigured without anomalies among the events to fit on."""
        for detector in self._unlabelled:
            detector.fit_draws(draws)
        tables = [self.table(draw.data) for draw in draws]
        for draw in draws:
            self._folds.learn(draw.data, draw.fit_on)
        seen = tables
        for number in range(len(self._looks)):
            self._looks[number] = self._fit_look(draws, seen, number)
            logits = [
                self._judge(self._looks[number], one, draw.data, draw.fit_on)
                for draw, one in zip(draws, seen, strict=True)
            ]
            seen = [
                _with(table, look_back(draw.data, told))
                for draw, table, told in zip(draws, tables, logits, strict=True)
            ]
        self._last = Forest(self._growth, self._seed, self._threads, self._fits)
        self._last.fit(*gather(draws, seen))

    def score(self, data: Dataset, events: Ints) -> Judged:
        table = seen = self.table(data)
        for look in self._looks:
            seen = _with(table, look_back(data, self._judge(look, seen, data)))
        return self._last.logits(seen[events])

    def table(self, data: Dataset) -> Table:
        """(events of `data`, columns) what the first look sees."""
        every = np.arange(len(data))
        told = [d.score(data, every).astype(np.float32) for d in self._unlabelled]
        more = [self._more(data)] if self._more is not None else []
        return np.column_stack([self._memory.of(data).values, *told, *more])

    def _fit_look(
        self, draws: Sequence[Draw], tables: Sequence[Table], number: int
    ) -> list[Forest]:
        learn, choose = gather(draws, tables)
        lots = np.concatenate([self._folds.lot(draw.data, draw.fit_on) for draw in draws])
        found = []
        for fold in range(self._folds.count):
            seed = self._seed + 100 * (number + 1) + fold
            forest = Forest(self._growth, seed, self._threads, 1)
            others: Flags = lots != fold
            forest.fit((learn[0][others], learn[1][others]), choose)
            found.append(forest)
        return found

    def _judge(
        self, look: Sequence[Forest], table: Table, data: Dataset, fit_on: Ints | None = None
    ) -> Judged:
        """(events of `data`,) each by the fold that did not learn from its user."""
        told = np.stack([forest.logits(table) for forest in look])
        lots = self._folds.of_users(data)
        if fit_on is not None:
            lots[fit_on] = self._folds.lot(data, fit_on)
        own = told[np.maximum(lots, 0), np.arange(len(table))]
        return np.where(lots < 0, told.mean(0), own)


def _with(table: Table, looked: NDArray[np.float32]) -> Table:
    return np.column_stack([table, looked])
