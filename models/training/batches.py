"""What a step of training reads: stretches of users' logs, and how much each event counts.

A causal encoder learns from every event of a stretch at once, so half-overlapping windows that
cover a log are enough. A bidirectional one must not see what came later: it learns from whole as-of
windows, each for its newest event. An epoch is a function of its random numbers alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import Dataset
from models.packing import left_aligned
from stream_app.core.window import Ints

Weights = NDArray[np.float32]

_BUCKET: Final = 32  # steps among which stretches are sorted by length
_SHORT_PAST: Final = 0.25  # weight of an event that sees less of its past than it will when served
_NORMAL_AT_MOST: Final = 24_000  # normal events an epoch, where each costs a window of its own


class Step(Struct, frozen=True):
    """One rectangle of events, left-aligned."""

    index: Ints  # (lines, events) rows
    lengths: Ints  # (lines,)
    weight: Weights  # (lines, events); 0: no loss


class Batches:
    """The steps over `events` of a data set; `weight` (events of the data set,) scales each one."""

    def __init__(self, data: Dataset, events: Ints, weight: Weights, causal: bool, lines: int):
        self._data, self._causal, self._lines = data, causal, lines
        self._events = events
        rows = len(data.windows.rows)
        self._weight = np.zeros(rows, np.float32)  # by row
        self._weight[data.row[events]] = weight[events]
        size = data.windows.index.shape[1]
        self._first = np.full(rows, -1, np.int64)  # by row: where its own window begins
        self._first[data.row] = data.windows.index[np.arange(len(data)), size - data.windows.length]
        self._order, self._end, self._begin = _logs(data, events)

    def epoch(self, rng: np.random.Generator) -> list[Ints]:
        """Events whose windows make a step each: windows of like length, in random order."""
        chosen = self._stretches(rng) if self._causal else self._sampled(rng)
        chosen = rng.permutation(chosen)
        length, lines = self._data.windows.length, self._lines
        steps: list[Ints] = []
        for begin in range(0, len(chosen), lines * _BUCKET):
            some = chosen[begin : begin + lines * _BUCKET]
            some = some[np.argsort(length[some], kind="stable")]
            steps += [some[at : at + lines] for at in range(0, len(some), lines)]
        return [steps[at] for at in rng.permutation(len(steps))]

    def step(self, events: Ints) -> Step:
        length = self._data.windows.length[events]
        width = int(length.max())
        index = left_aligned(self._data.windows, events, width).astype(np.int64)
        place = np.arange(width)
        if self._causal:
            full = (self._first[index] == index[:, :1]) | (place >= length[:, None] // 2)
            weight = np.where(full, 1.0, _SHORT_PAST) * (place < length[:, None])
        else:
            weight = (place == length[:, None] - 1) * 1.0
        return Step(index, length, (weight * self._weight[index]).astype(np.float32))

    def _stretches(self, rng: np.random.Generator) -> Ints:
        """Windows that cover every log from its end on, each half over the one before."""
        length = self._data.windows.length
        at, begin = self._end.copy(), self._begin
        chosen = []
        first = True
        while len(at):
            events = self._order[at]
            chosen.append(events)
            half = np.maximum(length[events] // 2, 1)
            left = np.flatnonzero(at + 1 - length[events] > begin)
            back = half if not first else 1 + (rng.random(len(at)) * (half - 1)).astype(np.int64)
            at, begin = (at - back)[left], begin[left]
            first = False
        found = np.concatenate(chosen)
        return found[self._counts(found)]

    def _counts(self, events: Ints) -> NDArray[np.bool_]:
        """Whether any event in the window has a loss."""
        windows = self._data.windows.take(events)
        counted = (self._weight[windows.index] > 0) & windows.mask()
        return np.asarray(counted.any(1), np.bool_)

    def _sampled(self, rng: np.random.Generator) -> Ints:
        """All anomalies, and a good many normal events."""
        counted = self._events[self._weight[self._data.row[self._events]] > 0]
        anomalous = self._data.anomalous[counted]
        normal = np.flatnonzero(~anomalous)
        some = rng.choice(normal, min(len(normal), _NORMAL_AT_MOST), replace=False)
        chosen: Ints = counted[np.concatenate([np.flatnonzero(anomalous), some])]
        return chosen


def _logs(data: Dataset, events: Ints) -> tuple[Ints, Ints, Ints]:
    """All events of the users of `events`, user by user in order of arrival; in that order, each
    user's last and first position.
    """
    of_users = np.zeros(len(data.users), bool)
    of_users[data.user[events]] = True
    some = np.flatnonzero(of_users[data.user])
    order = some[np.argsort(data.user[some], kind="stable")]
    user = data.user[order]
    end = np.flatnonzero(np.append(user[1:] != user[:-1], True)) if len(user) else user
    return order, end, np.append(0, end[:-1] + 1) if len(end) else end
