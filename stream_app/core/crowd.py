"""Who was at a thing lately: the state that is kept of an item, and what an event sees of it.

A visit is one user at one thing in one bucket of event time (10 s), and 64 bits:

    bucket (32) | user (24) | marks (8)      a greater number is a newer visit

The crowd of a thing is CAPACITY numbers, ascending, zeros first. It is a function of the *set* of
its visits, so neither their order nor a repetition counts:

    closed   of every user the newest visit before the newest bucket; of these the newest KEPT
    open     of the newest bucket, the KEPT visits of the largest user numbers

An event sees buckets before its own alone: what the order within its bucket was changes nothing.
Pure; `tests/core/crowd_oracle.py` is the naive answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BUCKET_MS: Final = 10_000
KEPT: Final = 16
CAPACITY: Final = 2 * KEPT
SPAN: Final = 24 * 3600 * 1000 // BUCKET_MS  # buckets after which a visit counts no more
USER_BITS: Final = 24

_BUCKET, _USER = np.uint64(32), np.uint64(8)
_ROTATED_BUCKET, _ROTATED_USER = np.uint64(8), np.uint64(40)
_MARKS, _USERS, _BUCKETS = np.uint64(0xFF), np.uint64((1 << USER_BITS) - 1), np.uint64(2**32 - 1)
_NONE = np.uint64(0)

Crowds = NDArray[np.uint64]  # (things, CAPACITY), or visits of things in rows, 0 where none
Ints = NDArray[np.int64]


def buckets(at_ms: Ints) -> NDArray[np.uint64]:
    """(events,) the buckets of event times; far beyond any clock they are all the same."""
    bounded: Ints = np.maximum(np.minimum(at_ms // BUCKET_MS, 2**32 - 1), 1)
    return bounded.astype(np.uint64)


def visits(bucket: NDArray[np.uint64], user: NDArray[np.uint64], marks: Ints) -> Crowds:
    """(events,) visits; of `user` the lowest 24 bits count."""
    of: NDArray[np.uint64] = user & _USERS
    made: Crowds = bucket << _BUCKET
    made |= of << _USER
    made |= marks.astype(np.uint64)
    return made


def join(crowds: Crowds, more: Crowds) -> Crowds:
    """Crowds with more visits (things, any), in any order and with repetitions."""
    every = _merged(np.concatenate([crowds, more], 1))
    newest = every[:, -1:] >> _BUCKET
    is_open = (every >> _BUCKET == newest) & (every != _NONE)
    kept = np.where(is_open, every, _NONE)[:, -KEPT:]  # ascending: the open ones are the last
    return np.sort(np.concatenate([before(every, newest[:, 0]), kept], 1), 1)


def before(crowds: Crowds, bucket: NDArray[np.uint64]) -> Crowds:
    """(things, KEPT) ascending: of each user the newest visit before `bucket` (things,); of these
    the newest.
    """
    own = crowds >> _BUCKET
    # Rotated, a user's visits stand together, the newest last.
    rotated = (crowds & _USERS << _USER) << np.uint64(32) | own << _ROTATED_BUCKET | crowds & _MARKS
    rotated[own >= bucket[:, None]] = _NONE
    rotated.sort(1)
    stale = rotated[:, :-1] >> _ROTATED_USER == rotated[:, 1:] >> _ROTATED_USER
    rotated[:, :-1][stale] = _NONE
    found: Crowds = (
        (rotated >> _ROTATED_BUCKET & _BUCKETS) << _BUCKET
        | rotated >> _ROTATED_USER << _USER
        | rotated & _MARKS
    )
    found.sort(1)
    return found[:, -KEPT:]


def _merged(every: Crowds) -> Crowds:
    """Sorted; of one user's visits in one bucket one is left, with the marks of all."""
    every.sort(1)
    while True:  # once, unless a visit is there three times and more
        same = every[:, 1:] >> _USER == every[:, :-1] >> _USER
        same &= every[:, 1:] != _NONE
        if not same.any():
            return every
        first = same.copy()  # of a run of the same visit, its first two alone
        first[:, 1:] &= ~same[:, :-1]
        every[:, 1:] |= np.where(first, every[:, :-1], _NONE) & _MARKS
        every[:, :-1][first] = _NONE
        every.sort(1)
