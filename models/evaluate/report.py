"""What an evaluation found, as values; `judge` makes it, `write` puts it into a folder."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Figure(Struct, frozen=True, omit_defaults=True):
    """A measure: mean over draws and seeds. NaN where there was nothing to measure."""

    value: float
    low: float | None = None  # 95 % bootstrap interval over users and campaigns (and seeds)
    high: float | None = None
    sd: float | None = None  # over draws and seeds


class Difference(Struct, frozen=True, omit_defaults=True):
    """The reference less another detector, on the same resamples."""

    value: float
    low: float | None = None
    high: float | None = None
    misses_removed: Figure | None = None  # 1 - (1 - reference) / (1 - other)

    @property
    def certain(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


Figures = dict[str, Figure]
Differences = dict[str, Difference]


class Count(Struct, frozen=True):
    """What stands behind the figures of a group: over all draws."""

    events: int
    anomalies: int
    campaigns: int
    prevalence: float  # of the anomalies against the normal events that they are measured against


class Measured(Struct, frozen=True, kw_only=True):
    """One detector."""

    figures: Figures  # over all events, by measure
    groups: dict[str, dict[str, Figures]]  # group -> value -> measure
    runs: dict[str, list[list[float]]]  # measure -> seed -> draw, for those who distrust means
    details: dict[str, Any]  # decisions, calibration, delays, look-alikes, budgets, curves


class Report(Struct, frozen=True, kw_only=True):
    """Detectors in the order given; the reference is compared with the others."""

    reference: str
    counts: dict[str, Any]
    groups: dict[str, dict[str, Count]]
    detectors: dict[str, Measured]
    differences: dict[str, Differences]  # other -> measure
    group_differences: dict[str, dict[str, dict[str, Differences]]]  # other -> group -> value
    bootstrap: int
    seed: int

    def figure(self, detector: str, measure: str, group: str = "", value: str = "") -> Figure:
        """One figure. Raises KeyError if it was not measured."""
        found = self.detectors[detector]
        return (found.groups[group][value] if group else found.figures)[measure]
