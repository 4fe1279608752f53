"""How soon a campaign is noticed: its events in order of arrival, and the first that is alerted."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.ranking import Flags, Floats, Ints

Whole = NDArray[np.int64]


class Campaigns(Struct, frozen=True):
    """The positives of one draw by campaign."""

    order: Ints  # (positives,) by campaign, then arrival
    first: Ints  # (campaigns,) where each begins in `order`
    size: Ints  # (campaigns,) its events
    unit: Ints  # (campaigns,)
    since_ms: Ints  # (positives,) in `order`: event time since the campaign's first event

    def __len__(self) -> int:
        return len(self.first)

    def before_alert(self, alerted: Flags) -> Whole:
        """(campaigns, resamples) events that came before the first alert; all if there is none.

        `alerted`: (positives, resamples).
        """
        if not len(self):
            return np.zeros((0, alerted.shape[1]), np.int64)
        place = np.arange(len(self.order)) - np.repeat(self.first, self.size)
        none = np.repeat(self.size, self.size)
        until = np.where(alerted[self.order], place[:, None], none[:, None])
        return np.asarray(np.minimum.reduceat(until, self.first, axis=0), np.int64)

    def seconds_to_alert(self, before: Whole) -> Floats:
        """(campaigns,) from a campaign's first event to its first alert; infinite without one.

        `before`: (campaigns,), one column of `before_alert`.
        """
        at = self.first + np.minimum(before, self.size - 1)
        return np.where(before < self.size, self.since_ms[at] / 1000, np.inf)

    def mostly(self, some: Flags) -> Flags:
        """(campaigns,) whether a campaign's first event is among `some` of the positives."""
        return np.asarray(some[self.order][self.first])


def campaigns_of(campaign: Ints, campaign_unit: Ints, at_ms: Ints) -> Campaigns:
    """Of the positives of one draw in order of arrival: number of the campaign, and event time."""
    order = np.argsort(campaign, kind="stable")
    numbers, first, size = np.unique(campaign[order], return_index=True, return_counts=True)
    begin = np.repeat(at_ms[order][first], size) if len(first) else at_ms[order]
    since = np.maximum(at_ms[order] - begin, 0)
    return Campaigns(order, first, size, campaign_unit[numbers], since)
