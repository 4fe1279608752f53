"""What a step of training reads: stretches of users' logs, and how much each event counts.

A causal encoder learns from every event of a stretch at once, so half-overlapping windows that
cover a log are enough. A bidirectional one must not see what came later: it learns from whole as-of
windows, each for its newest event. An epoch is a function of its random numbers alone; a step is
put together on the device, from tables that lie there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dataset import Dataset
from stream_app.core.window import Ints

Weights = NDArray[np.float32]

_BUCKET: Final = 32  # steps among which stretches are sorted by length
_SHORT_PAST: Final = 0.25  # weight of an event that sees less of its past than it will when served
_NORMAL_AT_MOST: Final = 24_000  # normal events an epoch, where each costs a window of its own


class Step(NamedTuple):
    """One rectangle of events, left-aligned, on the device."""

    rows: Tensor  # (lines, events) int64
    lengths: Tensor  # (lines,) int64
    weight: Tensor  # (lines, events) float32; 0: no loss


class Batches:
    """The steps over `events` of a data set; `weight` (events of the data set,) scales each one.

    `round_to`: widths of steps are multiples of it, so that there are few shapes to compile.
    """

    def __init__(
        self,
        data: Dataset,
        events: Ints,
        weight: Weights,
        *,
        causal: bool,
        lines: int,
        device: torch.device,
        round_to: int = 1,
    ) -> None:
        self._data, self._causal, self._lines, self._device = data, causal, lines, device
        self._round_to = round_to
        rows, size = len(data.windows.rows), data.windows.index.shape[1]
        self._counted = events[weight[events] > 0]
        of_row = np.zeros(rows, np.float32)
        of_row[data.row[self._counted]] = weight[self._counted]
        first = np.full(rows, -1, np.int64)  # by row: where its own window begins
        first[data.row] = data.windows.index[np.arange(len(data)), size - data.windows.length]
        self._table = torch.from_numpy(data.windows.index).to(device)
        self._weight = torch.from_numpy(of_row).to(device)
        self._first = torch.from_numpy(first).to(device)
        self._place = torch.arange(size, device=device)
        self._order, self._end, self._begin = _logs(data, self._counted)

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
        own = self._data.windows.length[events]
        size, least = len(self._place), int(own.max())
        width = min(size, -(-least // self._round_to) * self._round_to)
        lengths = torch.from_numpy(own.astype(np.int64)).to(self._device, non_blocking=True)
        which = torch.from_numpy(events).to(self._device, non_blocking=True)
        place = self._place[:width]
        right = (place + (size - lengths)[:, None]).clamp(max=size - 1)
        index = self._table[which].gather(1, right).long()
        if self._causal:
            full = (self._first[index] == index[:, :1]) | (place >= lengths[:, None] // 2)
            weight = full.float().clamp(min=_SHORT_PAST) * (place < lengths[:, None])
        else:
            weight = (place == lengths[:, None] - 1).float()
        return Step(index, lengths, weight * self._weight[index])

    def _stretches(self, rng: np.random.Generator) -> Ints:
        """Windows that cover every log from its end on, each half over the one before."""
        length = self._data.windows.length
        at, begin = self._end, self._begin
        chosen: list[Ints] = []
        while len(at):
            events = self._order[at]
            half = np.maximum(length[events] // 2, 1)
            more = np.flatnonzero(at + 1 - length[events] > begin)
            if not chosen:  # else the borders would be the same in every epoch
                half = 1 + (rng.random(len(at)) * (half - 1)).astype(np.int64)
            chosen.append(events)
            at, begin = (at - half)[more], begin[more]
        found = np.concatenate(chosen) if chosen else self._end
        windows = self._data.windows.take(found)
        weight = self._weight.cpu().numpy()
        return np.asarray(found[((weight[windows.index] > 0) & windows.mask()).any(1)], np.int64)

    def _sampled(self, rng: np.random.Generator) -> Ints:
        """All anomalies, and a good many normal events."""
        anomalous = self._data.anomalous[self._counted]
        normal = np.flatnonzero(~anomalous)
        some = rng.choice(normal, min(len(normal), _NORMAL_AT_MOST), replace=False)
        return np.asarray(
            self._counted[np.concatenate([np.flatnonzero(anomalous), some])], np.int64
        )


def _logs(data: Dataset, events: Ints) -> tuple[Ints, Ints, Ints]:
    """All events of the users of `events`, user by user in order of arrival; in that order, each
    user's last and first position.
    """
    of_users = np.zeros(len(data.users), bool)
    of_users[data.user[events]] = True
    some = np.flatnonzero(of_users[data.user])
    order = some[np.argsort(data.user[some], kind="stable")]
    user = data.user[order]
    if not len(user):
        return order, order, order
    end = np.flatnonzero(np.append(user[1:] != user[:-1], True))
    return order, end, np.append(0, end[:-1] + 1)
