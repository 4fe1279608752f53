"""Boosted trees on the aggregates, stopped where the choosing events say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from models.baselines.detector import Draw, Judged
from models.counters.aggregates import Memory
from models.dataset import Dataset
from models.trees import Flags, Table, Trees, fit
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints


class Growth(Struct, frozen=True, kw_only=True):
    """How trees are grown."""

    rate: float = 0.05
    leaves: int = 15
    least: int = 60  # events in a leaf
    columns: float = 0.4  # share of them that a tree sees
    rows: float = 0.8  # share of the events that a tree sees
    l2: float = 10.0

    @property
    def parameters(self) -> Mapping[str, float]:
        return {
            "learning_rate": self.rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.least,
            "feature_fraction": self.columns,
            "bagging_fraction": self.rows,
            "lambda_l2": self.l2,
        }


class Forest:
    """The mean of a few fits that differ by their seeds."""

    def __init__(self, growth: Growth, seed: int, threads: int, fits: int) -> None:
        self._growth, self._seed, self._threads, self._fits = growth, seed, threads, fits
        self._trees: list[Trees] = []

    def fit(self, learn: tuple[Table, Flags], choose: tuple[Table, Flags]) -> None:
        """Raises Misconfigured without anomalies, or normal events, to learn from."""
        names = [str(at) for at in range(learn[0].shape[1])]
        library()
        try:
            self._trees = [
                fit(
                    *learn,
                    *choose,
                    names,
                    self._seed + 1000 * at,
                    self._threads,
                    self._growth.parameters,
                )
                for at in range(self._fits)
            ]
        except ValueError as error:
            raise Misconfigured(
                f"{error}: give labels, or splice simulated attacks into the data first"
            ) from error

    def logits(self, table: Table) -> Judged:
        """(events,)"""
        told = [trees.raw(table, self._threads).astype(np.float64) for trees in self._trees]
        return np.asarray(np.mean(told, 0), np.float64)


class Boosted:
    """Trees on the aggregates of the user's own side, or on all of them."""

    labels = True

    def __init__(
        self, memory: Memory, seed: int, threads: int, *, own_only: bool = False,
        growth: Growth | None = None, fits: int = 3,
    ) -> None:  # fmt: skip
        self.name = "boosted-own" if own_only else "boosted"
        self._memory, self._own_only = memory, own_only
        self._forest = Forest(growth or Growth(), seed, threads, fits)

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self.fit_draws([Draw(data, fit_on, choose_on)])

    def fit_draws(self, draws: Sequence[Draw]) -> None:
        tables = [self._table(draw.data) for draw in draws]
        self._forest.fit(*gather(draws, tables))

    def score(self, data: Dataset, events: Ints) -> Judged:
        return self._forest.logits(self._table(data)[events])

    def _table(self, data: Dataset) -> Table:
        found = self._memory.of(data)
        return found.values[:, found.own] if self._own_only else found.values


def gather(
    draws: Sequence[Draw], tables: Sequence[Table]
) -> tuple[tuple[Table, Flags], tuple[Table, Flags]]:
    """What to learn from and what to choose by, of all draws. A table has all events of its."""
    pairs = list(zip(draws, tables, strict=True))
    return (
        np.concatenate([table[draw.fit_on] for draw, table in pairs]),
        np.concatenate([draw.data.anomalous[draw.fit_on] for draw in draws]),
    ), (
        np.concatenate([table[draw.choose_on] for draw, table in pairs]),
        np.concatenate([draw.data.anomalous[draw.choose_on] for draw in draws]),
    )


def library() -> Any:
    """LightGBM, loaded only where trees are grown. Raises Misconfigured."""
    try:
        import lightgbm
    except ImportError as error:
        raise Misconfigured("boosted trees need LightGBM: pip install lightgbm") from error
    return lightgbm
