"""The report's pictures: which there are, in which order, and what is said below each."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from models.evaluate import charts
from models.evaluate.curves import BUDGET_GRID, FALSE_RATES, RECALLS
from models.evaluate.details import EVENTS
from models.evaluate.panel import AP, LOOK_ALIKE_AUC
from models.evaluate.report import Report
from models.evaluate.svg import PALE, axes


class Plot(Struct, frozen=True):
    title: str
    svg: str
    note: str
    wide: bool = False


def plots(report: Report) -> Iterator[Plot]:
    """The same report gives the same bytes. Raises Misconfigured if matplotlib is not installed."""
    who = charts.shown(report)
    less = f" The {who.left_out} weakest detectors are left out." if who.left_out else ""
    curves = {name: report.detectors[name].details["curves"] for name in who.names}
    with axes(10, 1.0 + 0.36 * len(report.detectors)) as (drawn, done):
        charts.intervals(drawn, report, who)
        chance = f"{report.counts['prevalence']:.2%}"
        yield Plot(
            "Average precision",
            done(),
            f"With 95 % bootstrap intervals; the dashed line is chance: the prevalence, {chance}.",
            wide=True,
        )
    with axes() as (drawn, done):
        drawn.plot(FALSE_RATES, FALSE_RATES, color=PALE, lw=1, ls="--")
        charts.lines(drawn, who, FALSE_RATES, {n: c["roc"] for n, c in curves.items()})
        drawn.set_xscale("symlog", linthresh=1e-4)
        drawn.set(xlim=(0, 1), ylim=(0, 1.02))
        drawn.set(xlabel="share of normal events alerted", ylabel="share of anomalies alerted")
        yield Plot("ROC", done(), "As few alerts as anybody can look at are on the left." + less)
    with axes() as (drawn, done):
        drawn.axhline(report.counts["prevalence"], color=PALE, lw=1, ls="--")
        charts.lines(drawn, who, RECALLS, {n: c["precision_recall"] for n, c in curves.items()})
        drawn.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        yield Plot("Precision and recall", done(), "Mean over draws and seeds." + less)
    for whom in ("events", "users"):
        found = {n: c["campaigns_by_budget"].get(whom) for n, c in curves.items()}
        if all(found.values()):
            with axes() as (drawn, done):
                charts.lines(drawn, who, 1000 * BUDGET_GRID, found)
                drawn.set(xscale="log", ylim=(0, 1.02), ylabel="share of campaigns noticed")
                drawn.set(xlabel=f"alerted of 1,000 clean {whom}")
                note = "A campaign is noticed by its first alert." + less
                yield Plot(f"Alert budget: {whom}", done(), note)
    with axes() as (drawn, done):
        delays = {
            name: list(
                report.detectors[name].details["delays"]["1%"]["noticed_within_events"].values()
            )
            for name in who.names
        }
        charts.lines(drawn, who, EVENTS, delays, marks="o")
        drawn.set(xscale="log", ylim=(0, 1.02), ylabel="share of campaigns noticed")
        drawn.set_xticks(EVENTS, [str(n) for n in EVENTS])
        drawn.minorticks_off()
        drawn.set(xlabel="within so many of a campaign's events")
        yield Plot("Detection delay", done(), "With 1 % of clean events alerted." + less)
    if any("calibration" in report.detectors[name].details for name in who.names):
        with axes() as (drawn, done):
            charts.reliability(drawn, report, who)
            yield Plot(
                "Calibration",
                done(),
                "Bins of equal mass, on logarithmic axes, since anomalies are rare. On the dashed "
                "line a probability is what it says.",
            )
    for name in who.names[:2]:
        with axes() as (drawn, done):
            charts.histogram(drawn, curves[name]["histogram"])
            note = "Share of each kind's events, on a logarithmic axis."
            best = "" if name == report.reference else ", the strongest other"
            yield Plot(f"Scores of {name}{best}", done(), note)
    yield from _by_group(report, who, less)


def _by_group(report: Report, who: charts.Shown, less: str) -> Iterator[Plot]:
    for group, title in (("difficulty", "By difficulty"), ("seen", "Seen and new families")):
        if report.groups.get(group):
            with axes(10, 3.3, columns=2) as ((left, right), done):
                charts.bars(left, report, who, group, AP, "average precision")
                charts.bars(right, report, who, group, LOOK_ALIKE_AUC, "ROC-AUC, look-alikes")
                left.legend(loc="upper right")
                yield Plot(
                    title,
                    done(),
                    "Left: against all normal events. Right: against honest look-alikes alone, "
                    "where 0.5 is chance." + less,
                    wide=True,
                )
    if families := report.groups.get("family"):
        with axes(10, 1.0 + 0.36 * len(families)) as (drawn, done):
            charts.families(drawn, report, who)
            note = f"Average precision; the bar is the interval of {report.reference}." + less
            yield Plot("By family of attacks", done(), note, wide=True)
