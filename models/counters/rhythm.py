"""When a user acts: gaps, rates, sessions, hours."""

from __future__ import annotations

import math
from bisect import bisect_left
from math import log1p
from typing import Final

from models.counters.act import DAY, HOUR, MINUTE, NAN, SLOTS, Act
from models.counters.shopper import Shopper

_SPANS_S: Final = (10.0, MINUTE, 600.0, HOUR, DAY)
_EQUAL: Final = 0.02  # logarithms of gaps that differ by less are one gap
_OLDEST_S: Final = 2 * DAY  # ages beyond it are one age
_FAMILIAR: Final = 8  # events before hours mean anything
_EIGHT: Final = 8

NAMES: Final = (
    "u events", "u age", "gap", "gap 2", "gap 3",
    "gaps median", "gaps spread", "gaps long spread", "gaps least", "gaps equal", "gaps odd",
    "gaps unlike", "gaps variation",
    "u in 10 s", "u in 1 min", "u in 10 min", "u in 1 h", "u in 1 d",
    "session events", "session age", "session rate", "session number", "session items",
    "session groups", "session new groups", *(f"session type {k}" for k in range(1, SLOTS + 1)),
    "hour familiar", "hour seen",
)  # fmt: skip


def look(act: Act, user: Shopper) -> list[float]:
    """The event that just arrived, against the user's past."""
    at_s, gap, n = act.at_s, user.gap, user.n
    gaps = [*user.gaps, gap] if n else []
    found = [
        log1p(min(n, 512)),
        log1p(min(at_s - user.since_s, _OLDEST_S)) if n and at_s > user.since_s else NAN,
        gap,
        gaps[-2] if len(gaps) > 1 else NAN,
        gaps[-3] if len(gaps) > 2 else NAN,
        *_of_gaps(gaps, gap),
        (gap - user.gap_mean) / math.sqrt(user.gap_variance) if n > 4 else NAN,
        _variation(gaps),
    ]
    times = user.times
    count = len(times)
    found += [log1p(count - bisect_left(times, at_s - span)) for span in _SPANS_S]
    session = user.session
    size, age_s = session.n + 1, max(0.0, at_s - session.since_s)
    found += [
        log1p(session.n),
        log1p(age_s),
        log1p(60 * session.n / (age_s + 10)),
        log1p(user.sessions),
        (session.different[0] + (act.item not in session.items)) / size,
        (session.different[1] + (act.group not in session.groups)) / size,
        session.fresh_groups / size,
    ]
    shares = [count / size for count in session.slots]
    shares[act.slot] += 1 / size
    found += shares
    if n >= _FAMILIAR:
        hours, hour = user.hours, int(at_s / HOUR) % 24
        near = hours[hour] + hours[hour - 1] + hours[(hour + 1) % 24]
        found += [near / n, log1p(hours[hour])]
    else:
        found += [NAN, NAN]
    return found


def _of_gaps(gaps: list[float], gap: float) -> list[float]:
    """Logarithms of the last gaps: median, spreads, least, share of equal ones, own to median."""
    if not gaps:
        return [NAN] * 6
    near = sorted(gaps[-_EIGHT:])
    median = near[len(near) // 2]
    equal = sum(abs(x - gap) < _EQUAL for x in near) / len(near)
    return [
        median,
        _spread(near) if len(near) > 2 else NAN,
        _spread(gaps) if len(gaps) > 5 else NAN,
        near[0],
        equal,
        gap - median,
    ]


def _spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))


def _variation(gaps: list[float]) -> float:
    """Spread of the gaps themselves over their mean: 1 for chance, 0 for a clock."""
    if len(gaps) < 4:
        return NAN
    seconds = [math.expm1(x) for x in gaps]
    return log1p(_spread(seconds) / (sum(seconds) / len(seconds) + 0.5))
