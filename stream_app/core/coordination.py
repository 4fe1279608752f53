"""Whether users look as if they worked together: what is kept of each, and how a few compare.

Many users at one thing are a flash sale as well. A campaign is many who are alike where honest
people are not:

    paths      pairs of users who were at the same other item, or at none at all
    certainty  how sure the model is of them, each for themselves
    rhythm     pairs of users whose median gap between acts differs by less than RHYTHM
    newness    users whose account is young

Pure. The strength of the evidence is a logistic function of the first two, fitted on simulated
shops (scripts/fit_campaigns.py) that nothing is judged on. The other two got no weight there; they
are told for people.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import combinations, pairwise
from statistics import median
from typing import Final

from msgspec import Struct

from stream_app.core.window import Windows

OTHERS: Final = 6  # items kept of a user's window, those of the smallest hashes
GAPS: Final = 16  # newest gaps that count
RHYTHM: Final = 0.2  # natural logarithms
NEW_MS: Final = 6 * 3600 * 1000


class Member(Struct, frozen=True, array_like=True):
    """An anomalous event, and what its user did before it."""

    user_id: str
    event_id: str
    score: float
    own: int  # hash of the event's item, 0 if it has none
    items: tuple[int, ...]  # hashes of items in the user's window
    gap: float | None  # log(1 + s), the median of their newest gaps; None with fewer than two
    new: bool | None  # whether the account is young; None where nobody keeps that


class Evidence(Struct, frozen=True):
    """How alike some users are."""

    users: int
    same_paths: float  # share of pairs
    certainty: float  # mean score
    same_rhythm: float | None  # share of pairs, of users with a rhythm
    new_accounts: float | None  # share of users, where it is known
    strength: float  # 0 to 1; from `CampaignPolicy.strength` on it is a campaign


class Weights(Struct, frozen=True):
    """Of a logistic function."""

    bias: float = -3.5
    paths: float = 1.3
    certainty: float = 5.0


WEIGHTS: Final = Weights()


def path_of(windows: Windows, window: int, item: str | None) -> tuple[int, tuple[int, ...]]:
    """Hash of the window's own item, and of some of all its items. `item`: a field of the row."""
    if item is None:
        return 0, ()
    index = windows.index[window, -int(windows.length[window]) :]
    items: list[int] = windows.rows[item][index].tolist()
    return items[-1], tuple(sorted({*items} - {0})[:OTHERS])


def gap_of(windows: Windows, window: int) -> float | None:
    """See `Member.gap`."""
    length = min(int(windows.length[window]), GAPS + 1)
    at_ms: list[int] = windows.rows["at_ms"][windows.index[window, -length:]].tolist()
    if length < 3:
        return None
    return round(median(math.log1p((later - at) / 1000) for at, later in pairwise(at_ms)), 3)


def evidence_of(
    members: Sequence[Member], *, of_item: bool, weights: Weights = WEIGHTS
) -> Evidence:
    """Of each user the newest of `members` counts. `of_item`: they share an item, which is then no
    path of its own.
    """
    users = list({member.user_id: member for member in members}.values())
    gaps = [user.gap for user in users if user.gap is not None]
    rhythm = _share([abs(one - other) < RHYTHM for one, other in combinations(gaps, 2)])
    others = [frozenset(u.items) - ({u.own} if of_item else set()) for u in users]
    paths = _share([_meet(one, other) for one, other in combinations(others, 2)]) or 0.0
    new = _share([user.new for user in users if user.new is not None])
    certainty = sum(user.score for user in users) / len(users)
    told = weights.bias + weights.paths * paths + weights.certainty * certainty
    return Evidence(
        users=len(users),
        same_paths=round(paths, 4),
        certainty=round(certainty, 4),
        same_rhythm=_rounded(rhythm),
        new_accounts=_rounded(new),
        strength=round(1 / (1 + math.exp(-told)), 4),
    )


def _meet(one: Collection[int], other: Collection[int]) -> bool:
    return not one and not other if not one or not other else not set(one).isdisjoint(other)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
