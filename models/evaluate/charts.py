"""Single charts, drawn on matplotlib's axes. They know the report, not the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from models.evaluate.panel import AP, LOOK_ALIKE_AUC
from models.evaluate.report import Figure, Report
from models.evaluate.svg import INK, PALE

REFERENCE: Final = "#0b62c4"
OTHERS: Final = ("#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6b7280")
_LEAST: Final = 1e-4  # probability at the end of a logarithmic axis
_KINDS: Final = {"normal": "#6b7280", "look-alike": "#8a6d00", "anomalous": "#d55e00"}


class Shown(Struct, frozen=True):
    """Detectors that one can tell apart by colour: the reference, and the best of the others."""

    names: tuple[str, ...]
    colour: Mapping[str, str]
    left_out: int

    def width(self, name: str) -> float:
        return 2.4 if name == self.names[0] else 1.4


def shown(report: Report) -> Shown:
    others = [name for name in report.detectors if name != report.reference]
    others.sort(key=lambda name: -report.figure(name, AP).value)
    names = (report.reference, *others[: len(OTHERS)])
    colour = dict(zip(names, (REFERENCE, *OTHERS), strict=False))
    return Shown(names, colour, len(report.detectors) - len(names))


def lines(axes: Any, who: Shown, x: ArrayLike, curves: Mapping[str, Any], marks: str = "") -> None:
    """A curve of each detector, the reference on top."""
    for name in reversed(who.names):
        if name in curves:
            axes.plot(
                x,
                curves[name],
                color=who.colour[name],
                lw=who.width(name),
                label=name,
                marker=marks,
                ms=3.5,
            )
    legend(axes)


def legend(axes: Any, **where: Any) -> None:
    """The reference first."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], **(where or {"loc": "best"}))


def intervals(axes: Any, report: Report, who: Shown) -> None:
    """Average precision of every detector, the best on top."""
    names = sorted(report.detectors, key=lambda name: report.figure(name, AP).value)
    for at, name in enumerate(names):
        one, ink = report.figure(name, AP), who.colour.get(name, PALE)
        _bar(axes, one, at, ink, 2.5, 0.55)
        axes.plot(one.value, at, "o", color=ink, ms=7)
        axes.annotate(
            f"{one.value:.3f}",
            (one.value, at),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(names)), names)
    axes.axvline(report.counts["prevalence"], color=PALE, lw=1, ls="--")
    axes.set(ylim=(-0.6, len(names) - 0.2), xlim=(0, None), xlabel="average precision")
    axes.grid(axis="y", visible=False)


def reliability(axes: Any, report: Report, who: Shown) -> None:
    """Of those that tell probabilities."""
    axes.plot([_LEAST, 1], [_LEAST, 1], color=PALE, lw=1, ls="--")
    for name in reversed(who.names):
        if told := report.detectors[name].details.get("calibration"):
            bins = told["bins"]
            x, y = np.maximum(bins.predicted, _LEAST), np.maximum(bins.observed, _LEAST)
            width = who.width(name)
            axes.plot(x, y, color=who.colour[name], lw=width, marker="o", ms=4, label=name)
    axes.set(xscale="log", yscale="log", xlim=(_LEAST, 1), ylim=(_LEAST, 1))
    axes.set(xlabel="probability told", ylabel="share of anomalies")
    legend(axes)


def histogram(axes: Any, held: Mapping[str, Any]) -> None:
    """Scores of normal events, look-alikes and anomalies."""
    for kind, shares in held["shares"].items():
        axes.stairs(shares, held["edges"], color=_KINDS[kind], lw=1.8, label=kind)
        axes.stairs(shares, held["edges"], color=_KINDS[kind], fill=True, alpha=0.12)
    axes.set(yscale="log", xlabel="score", ylabel="share of events")
    axes.legend(loc="best")


def bars(axes: Any, report: Report, who: Shown, group: str, measure: str, label: str) -> None:
    """A measure by the values of a group, with intervals."""
    order = list(report.groups[group])
    width = 0.8 / len(who.names)
    for at, name in enumerate(who.names):
        found = report.detectors[name].groups.get(group, {})
        shift = (at - (len(who.names) - 1) / 2) * width
        drawn = [
            (place + shift, found[value][measure])
            for place, value in enumerate(order)
            if measure in found.get(value, {})
        ]
        x, heights = [place for place, _ in drawn], [one.value for _, one in drawn]
        axes.bar(x, heights, width * 0.9, color=who.colour[name], label=name)
        for place, one in drawn:
            if one.low is not None and one.high is not None:
                axes.plot([place, place], [one.low, one.high], color=INK, lw=1)
    if measure == LOOK_ALIKE_AUC:
        axes.axhline(0.5, color=PALE, lw=1, ls="--")
    axes.set_xticks(range(len(order)), order)
    axes.set(ylim=(0, 1), ylabel=label)
    axes.grid(axis="x", visible=False)


def families(axes: Any, report: Report, who: Shown) -> None:
    """Average precision by family, with the interval of the reference."""
    first = report.detectors[report.reference].groups["family"]
    names: Sequence[str] = sorted(first, key=lambda family: first[family][AP].value)
    for at, family in enumerate(names):
        _bar(axes, first[family][AP], at, REFERENCE, 7, 0.18)
    for name in reversed(who.names):
        found = report.detectors[name].groups["family"]
        x = [found[family][AP].value for family in names]
        size = 8 if name == report.reference else 5
        axes.plot(x, range(len(names)), "o", color=who.colour[name], ms=size, label=name)
    axes.set_yticks(range(len(names)), [family.replace("_", " ") for family in names])
    axes.set(xlim=(0, 1), xlabel="average precision")
    legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _bar(axes: Any, one: Figure, at: float, ink: str, width: float, alpha: float) -> None:
    if one.low is not None and one.high is not None:
        axes.plot([one.low, one.high], [at, at], color=ink, lw=width, alpha=alpha)
