"""What attacks do to those who read the stream, and how much of it the cleaned stream undoes.

A recommender and user profiles are computed from three versions of the same history:

    truth      the honest events alone, which no shop ever sees
    polluted   all events, as they came
    cleaned    without those that the model put into quarantine, right or wrong

What the cleaned stream undoes is (cleaned - polluted) / (truth - polluted): 1 is all of the damage,
below 0 is more harm than good.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import Dataset
from models.schema import Schema
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

LIST: Final = 20  # items recommended
NEIGHBOURS: Final = 50  # kept for each item
STRENGTH: Final = {"purchase": 4.0, "cart": 3.0, "favourite": 3.0, "click": 1.0, "browse": 1.0}
_ROUNDING: Final = 1e-9  # shares that should be equal differ by less

Flags = NDArray[np.bool_]
Array = NDArray[np.floating[Any]]


class Taste(Struct, frozen=True):
    """(events,) each: who liked what, how much."""

    user: Ints
    item: Ints
    category: Ints
    strength: Array

    def only(self, which: Flags) -> Taste:
        return Taste(self.user[which], self.item[which], self.category[which], self.strength[which])


class Recommended(Struct, frozen=True):
    """Of the users who later came to something new to them."""

    users: int
    hit_rate: float  # share with at least one of their new items in the list
    recall: float  # mean share of their new items in the list


class Profiles(Struct, frozen=True):
    """Mean distance (total variation, 0 to 1) of users' shares of what they like from the truth."""

    users: int
    distance: float


class Corrected(Struct, frozen=True):
    """By version of the history: truth, polluted, cleaned."""

    recommended: Mapping[str, Recommended]
    categories: Mapping[str, Profiles]  # shares of categories, of all honest users
    hit_categories: Mapping[str, Profiles]  # of those whose account was misused
    items: Mapping[str, Profiles]  # shares of items
    hit_items: Mapping[str, Profiles]
    popular: Mapping[str, float]  # share of the truth's 100 most liked items that are still there

    def by_measure(self) -> dict[str, dict[str, float]]:
        """Measure -> version -> value."""
        profiles = {
            "categories": self.categories,
            "categories of misused accounts": self.hit_categories,
            "items": self.items,
            "items of misused accounts": self.hit_items,
        }
        return {
            "hit rate": {k: r.hit_rate for k, r in self.recommended.items()},
            "recall": {k: r.recall for k, r in self.recommended.items()},
            "popular items": dict(self.popular),
            **{
                name: {version: own.distance for version, own in by.items()}
                for name, by in profiles.items()
            },
        }

    def undone(self) -> dict[str, float]:
        """Share of the damage that the cleaned stream undoes, by measure; NaN without damage."""
        return {name: _undone(by) for name, by in self.by_measure().items()}


def taste_of(data: Dataset, schema: Schema) -> Taste:
    """Raises Misconfigured if the schema has no items and categories."""
    rows = data.windows.rows[data.row]
    names = rows.dtype.names or ()
    if "item" not in names or "category" not in names:
        raise Misconfigured("recommendations need a schema with the fields item and category")
    by_type = np.array([0.0, *(STRENGTH.get(name, 0.0) for name in schema.type_names)])
    item = np.unique(rows["item"], return_inverse=True)[1]
    category = np.unique(rows["category"], return_inverse=True)[1]
    strength = by_type[rows["type"]] * (rows["item"] != 0)
    return Taste(data.user.astype(np.int64), item, category, strength)


def correction(taste: Taste, anomalous: Flags, quarantined: Flags, later: Flags) -> Corrected:
    """`later`: events to be recommended; those before them are the history. (events,) flags all.

    Judged on honest users alone, by their honest later events.
    """
    versions = {
        "truth": ~anomalous,
        "polluted": np.ones(len(anomalous), np.bool_),
        "cleaned": ~quarantined,
    }
    history = {name: taste.only(kept & ~later) for name, kept in versions.items()}
    wanted = taste.only(later & ~anomalous)
    honest = np.unique(taste.user[~anomalous])
    misused = np.intersect1d(honest, taste.user[anomalous & ~later])

    def profiles(of: str, users: Ints) -> dict[str, Profiles]:
        shares = {name: _shares(some, taste, of) for name, some in history.items()}
        return {name: _distance(shares["truth"], own, users) for name, own in shares.items()}

    top = {name: _most_liked(some) for name, some in history.items()}
    return Corrected(
        {name: _recommend(some, history["truth"], wanted) for name, some in history.items()},
        profiles("category", honest),
        profiles("category", misused),
        profiles("item", honest),
        profiles("item", misused),
        {name: len(own & top["truth"]) / max(len(top["truth"]), 1) for name, own in top.items()},
    )


def _recommend(history: Taste, known: Taste, wanted: Taste) -> Recommended:
    """Lists from `history`; what a user honestly knew is new to nobody, in all versions alike."""
    from implicit.nearest_neighbours import CosineRecommender
    from scipy.sparse import csr_matrix

    every = (history, known, wanted)
    shape = (
        1 + max(int(some.user.max(initial=0)) for some in every),
        1 + max(int(some.item.max(initial=0)) for some in every),
    )
    likes = csr_matrix((history.strength, (history.user, history.item)), shape, dtype=np.float32)
    seen = csr_matrix((known.strength, (known.user, known.item)), shape, dtype=np.float32) > 0
    goal = csr_matrix((wanted.strength, (wanted.user, wanted.item)), shape, dtype=np.float32) > 0
    goal = (goal.astype(np.int8) - goal.multiply(seen).astype(np.int8)).tocsr()
    goal.eliminate_zeros()
    users = np.flatnonzero(np.diff(goal.indptr) * np.diff(seen.tocsr().indptr))
    model = CosineRecommender(K=NEIGHBOURS, num_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a matrix that the library itself made
        model.fit(likes, show_progress=False)
        lists, _ = model.recommend(users, likes[users], N=LIST, filter_already_liked_items=True)
    hits = [
        np.isin(goal.indices[goal.indptr[user] : goal.indptr[user + 1]], own)
        for user, own in zip(users, lists, strict=True)
    ]
    if not hits:
        return Recommended(0, float("nan"), float("nan"))
    return Recommended(
        len(hits),
        float(np.mean([hit.any() for hit in hits])),
        float(np.mean([hit.mean() for hit in hits])),
    )


def _shares(history: Taste, everyone: Taste, of: str) -> Any:
    """Sparse (users, categories or items) each user's liking; rows sum to 1, or to 0."""
    from scipy.sparse import csr_array

    size = (int(everyone.user.max()) + 1, int(getattr(everyone, of).max()) + 1)
    total = np.bincount(history.user, history.strength, size[0])[history.user]
    share = np.divide(history.strength, total, out=np.zeros(len(total)), where=total > 0)
    return csr_array((share, (history.user, getattr(history, of))), size)


def _distance(truth: Any, own: Any, users: Ints) -> Profiles:
    users = users[truth.sum(1)[users] > 0]
    if not len(users):
        return Profiles(0, float("nan"))
    # Who has no history left is as far off as can be.
    apart = np.maximum(abs(truth - own).sum(1)[users] / 2, own.sum(1)[users] == 0)
    return Profiles(len(users), float(apart.mean()))


def _most_liked(history: Taste, count: int = 100) -> set[int]:
    liking = np.bincount(history.item, history.strength)
    order = np.argsort(-liking, kind="stable")[:count]
    return set(order[liking[order] > 0].tolist())


def _undone(by: Mapping[str, float]) -> float:
    damage = by["truth"] - by["polluted"]
    return (by["cleaned"] - by["polluted"]) / damage if abs(damage) > _ROUNDING else float("nan")
