"""Detectors without labels, on standardised aggregates.

Each judges an event by itself: what else is asked about does not change its score. (ECOD of pyod
ranks the asked events among each other; here the ranks are those of the fit, as in a stream.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from models.baselines.detector import Draw, Judged
from models.baselines.scale import Points, Scale, sample
from models.counters.aggregates import Memory
from models.dataset import Dataset
from models.extra import missing
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

_BATCH: Final = 4096
_LARGEST_SEED: Final = 2**32 - 1

Scorer = Callable[[Points], Judged]  # (points, columns) -> (points,), higher is more unusual
Shape = Callable[..., Scorer]  # (points, seed, threads, **settings)


class Unlabelled:
    """What is usual among the events to fit on; it may hold a few anomalies, nobody says which."""

    labels = False

    def __init__(
        self, name: str, memory: Memory, seed: int, threads: int, *, most: int = 30_000,
        **settings: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self._memory, self._seed, self._threads = memory, seed % _LARGEST_SEED, threads
        self._most, self._settings = most, settings
        self._fitted: tuple[Scale, Scorer] | None = None

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        self.fit_draws([Draw(data, fit_on, choose_on)])

    def fit_draws(self, draws: Sequence[Draw]) -> None:
        table = sample(self._memory, draws, self._most, self._seed)
        scale = Scale(table)
        points = scale.apply(table)
        scorer = SHAPES[self.name](points, self._seed, self._threads, **self._settings)
        self._fitted = scale, scorer

    def score(self, data: Dataset, events: Ints) -> Judged:
        if self._fitted is None:
            raise Misconfigured(f"{self.name} is not fitted")
        scale, scorer = self._fitted
        table = self._memory.of(data).values[events]
        told = [scorer(scale.apply(table[at : at + _BATCH])) for at in range(0, len(table), _BATCH)]
        return np.concatenate(told).astype(np.float64) if told else np.zeros(0)


def isolation_forest(
    points: Points, seed: int, threads: int, trees: int = 300, events: int = 512
) -> Scorer:
    """How few random cuts it takes to set a point apart."""
    ensemble = _sklearn("ensemble")
    forest = ensemble.IsolationForest(
        n_estimators=trees, max_samples=min(events, len(points)), random_state=seed, n_jobs=threads
    ).fit(points)
    return lambda asked: -forest.score_samples(asked)


def ecod(points: Points, seed: int, threads: int) -> Scorer:
    """How far out a point is in the tails of each column's own distribution, all columns added:
    its farther tail, of a column that leans to no side both tails.
    """
    ascending = np.sort(points, axis=0).T
    count = len(points)
    off = points - points.mean(0)
    skewness = (off**3).mean(0) / np.maximum((off**2).mean(0), 1e-12) ** 1.5
    even = np.abs(skewness) < 1

    def tails(asked: Points) -> Judged:
        left, right = np.empty_like(asked), np.empty_like(asked)
        for at, known in enumerate(ascending):
            left[:, at] = np.searchsorted(known, asked[:, at], "right")
            right[:, at] = count - np.searchsorted(known, asked[:, at], "left")
        left = -np.log(np.maximum(left, 0.5) / count)
        right = -np.log(np.maximum(right, 0.5) / count)
        return np.asarray(np.where(even, left + right, np.maximum(left, right)).sum(1), np.float64)

    return tails


def histograms(points: Points, seed: int, threads: int, bins: int = 20) -> Scorer:
    """HBOS: how rare a point's bin is in each column, in nats, all columns added."""
    low, high = points.min(0), points.max(0)
    place = _bin(points, low, high, bins)
    nats = np.empty((bins, points.shape[1]))
    for at in range(points.shape[1]):
        counts = np.bincount(place[:, at], minlength=bins) + 0.5
        nats[:, at] = -np.log(counts / counts.sum())
    columns = np.arange(points.shape[1])

    def rareness(asked: Points) -> Judged:
        return np.asarray(nats[_bin(asked, low, high, bins), columns].sum(1), np.float64)

    return rareness


def neighbours(
    points: Points, seed: int, threads: int, nearest: int = 10, parts: int = 20,
    events: int = 20_000,
) -> Scorer:  # fmt: skip
    """kNN: mean distance to the nearest known points, in the space of the largest components."""
    components = _components(points, parts, seed)
    known = _some(components.transform(points), events, seed)
    index = _sklearn("neighbors").NearestNeighbors(
        n_neighbors=min(nearest, len(known)), n_jobs=threads
    )
    index.fit(known)

    def distance(asked: Points) -> Judged:
        return np.asarray(index.kneighbors(components.transform(asked))[0].mean(1), np.float64)

    return distance


def mean_shift(
    points: Points, seed: int, threads: int, quantile: float = 0.02, parts: int = 10,
    share: float = 0.002, events: int = 2000,
) -> Scorer:  # fmt: skip
    """Distance to the nearest mode that is more than a few points."""
    cluster = _sklearn("cluster")
    components = _components(points, parts, seed)
    known = _some(components.transform(points), events, seed)
    width = cluster.estimate_bandwidth(known, quantile=max(quantile, 2 / len(known)))
    found = cluster.MeanShift(bandwidth=width or 1.0, n_jobs=threads, max_iter=100).fit(known)
    sizes = np.bincount(found.labels_, minlength=len(found.cluster_centers_))
    modes = found.cluster_centers_[sizes >= min(max(share * len(known), 2), sizes.max())]

    def distance(asked: Points) -> Judged:
        apart = components.transform(asked)[:, None] - modes[None]
        return np.asarray(np.sqrt((apart**2).sum(2)).min(1), np.float64)

    return distance


def residuals(points: Points, seed: int, threads: int, parts: int = 40) -> Scorer:
    """What the largest principal components leave unexplained of a point."""
    components = _components(points, parts, seed)

    def left(asked: Points) -> Judged:
        again = components.inverse_transform(components.transform(asked))
        return np.asarray(((asked - again) ** 2).sum(1), np.float64)

    return left


SHAPES: Final[dict[str, Shape]] = {
    "isolation-forest": isolation_forest,
    "ecod": ecod,
    "hbos": histograms,
    "knn": neighbours,
    "mean-shift": mean_shift,
    "pca": residuals,
}


def _bin(points: Points, low: Points, high: Points, bins: int) -> Ints:
    at = (points - low) / np.maximum(high - low, 1e-9) * bins
    return np.clip(at, 0, bins - 1).astype(np.int64)


def _components(points: Points, parts: int, seed: int) -> Any:
    decomposition = _sklearn("decomposition")
    parts = min(parts, *points.shape)
    return decomposition.PCA(n_components=parts, random_state=seed).fit(points)


def _some(points: Points, most: int, seed: int) -> Points:
    if len(points) <= most:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))]


def _sklearn(module: str) -> Any:
    """A module of scikit-learn, loaded only where it is used. Raises Misconfigured."""
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise missing("this baseline", "scikit-learn") from error
