"""The bootstrap: users and campaigns drawn with replacement, each with all its events.

Events of one user, or of one campaign, are alike; drawing single events would make intervals far
too narrow. Clean events are drawn by user, anomalies by campaign (by user where they have none),
campaigns within their draw. All detectors see the same resamples, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.truth import Truth
from stream_app.core.window import Ints

Floats = NDArray[np.float64]

_CELLS = 4_000_000  # numbers in one product; more would leave the caches and the memory


class Units(Struct, frozen=True):
    """What is drawn as a whole. The first `users` units are users, the others campaigns."""

    of: Ints  # (events,) the unit of each event
    user: Ints  # (events,) its user, as a unit
    campaign: Ints  # (events,) number of the campaign of an anomaly; -1 for normal events
    campaign_unit: Ints  # (campaigns,)
    strata: tuple[Ints, ...]  # units that are drawn among themselves
    count: int


def units_of(truth: Truth) -> Units:
    names, user = np.unique(truth.user, return_inverse=True)
    users = len(names)
    labelled = truth.anomalous & (truth.campaign != "")
    of = user.astype(np.int64)
    keys, number = _numbered(truth.draw[labelled], truth.campaign[labelled])
    of[labelled] = users + number
    strata = [np.arange(users)]
    strata += [users + np.flatnonzero(keys == draw) for draw in np.unique(keys).tolist()]
    # A campaign is what is to be detected once: of an anomaly without one, all that its user did.
    campaign = np.full(len(truth), -1)
    own = np.flatnonzero(truth.anomalous)
    _, campaign[own] = _numbered(truth.draw[own], of[own].astype(np.str_))
    found, first = np.unique(campaign[own], return_index=True)
    return Units(of, user, campaign, of[own][first][: len(found)], tuple(strata), users + len(keys))


def weights(units: Units, resamples: int, seed: int, rows: int = 0) -> Iterator[Floats]:
    """(units, columns) at a time; the first column of all is everything once, then resamples.

    `rows`: of what is to be multiplied with them; so many columns come at once as memory likes.
    """
    width = max(8, _CELLS // max(rows, units.count, 1))
    for begin in range(0, resamples + 1, width):
        end = min(begin + width, resamples + 1)
        found = np.ones((units.count, end - begin))
        for number in range(max(begin, 1), end):
            rng = np.random.default_rng((seed, number))
            for stratum in units.strata:
                drawn = rng.integers(0, len(stratum), len(stratum))
                found[stratum, number - begin] = np.bincount(drawn, minlength=len(stratum))
        yield found


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentiles of resamples; those that had nothing to measure are left out. NaN if all had."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def _numbered(draw: Ints, name: NDArray[np.str_]) -> tuple[Ints, Ints]:
    """Pairs of draw and name, numbered: the draw of each number, and the number of each event."""
    names, code = np.unique(name, return_inverse=True)
    pairs, number = np.unique(draw * max(len(names), 1) + code, return_inverse=True)
    return pairs // max(len(names), 1), number
