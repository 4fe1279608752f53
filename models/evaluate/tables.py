"""What an evaluation found as tables of text, for Markdown and the page alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from models.evaluate.details import OTHERS
from models.evaluate.drift import LITTLE, MUCH
from models.evaluate.panel import AP, AUC, LOOK_ALIKE_AUC, RARE_AP
from models.evaluate.report import Difference, Figure, Figures, Report
from models.evaluate.run import Evaluation
from models.evaluate.spread import ACHIEVED
from models.simulate.audit import LIMIT

TITLES: Final = {
    AP: "average precision",
    RARE_AP: "… at 1 % prevalence",
    AUC: "ROC-AUC",
    "recall@0.1%": "recall, 0.1 % of clean events alerted",
    "recall@1%": "recall, 1 % alerted",
    "campaigns@10/1000users": "campaigns found, 10 of 1,000 clean users alerted",
    "let_through@1%": "share of a campaign before its first alert (1 %)",
    LOOK_ALIKE_AUC: "ROC-AUC attack against look-alike",
}
_GROUPS: Final = {
    "difficulty": "By difficulty",
    "seen": "Families seen in training, and not",
    "family": "By family of attacks",
    "place": "New accounts, and real ones",
    "task": "By task",
}
_BY_GROUP: Final = (AP, RARE_AP, AUC, "recall@0.1%", "recall@1%", "campaigns@1%", LOOK_ALIKE_AUC)
_SHORT: Final = TITLES | {
    "recall@0.1%": "recall at 0.1 %",
    "recall@1%": "recall at 1 %",
    "campaigns@1%": "campaigns found at 1 %",
    LOOK_ALIKE_AUC: "against look-alikes",
}
_DELAY: Final = (
    *("detector", "budget", "campaigns noticed", "median event", "median time"),
    *("within 1 event", "3", "10", "within 1 min", "10 min", "1 h"),
)
_CALIBRATION: Final = (
    *("detector", "expected calibration error", "… equal width", "Brier", "Brier skill"),
    *("mean probability", "prevalence", "error by task"),
)


class Table(Struct, frozen=True):
    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def tables(evaluation: Evaluation) -> list[Table]:
    """In the order in which one reads them; none that would be empty."""
    report = evaluation.report
    found = [_all(report), *_differences(report)]
    found += [_group(report, group, title) for group, title in _GROUPS.items()]
    others = [group for group in report.groups if group not in _GROUPS]
    found += [_group(report, group, f"By {group}") for group in others]
    found += [_delays(report), _campaign_alerts(report), _look_alikes(report)]
    found += [_look_alike_users(report), _decisions(report), _classes(report)]
    found += [_calibration(report), _budgets(report), _runs(report)]
    found += [_leaks(evaluation), _drift(evaluation)]
    return [table for table in found if table.rows]


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def figure(one: Figure | None, digits: int = 3) -> str:
    """0.512 [0.470, 0.550]"""
    if one is None:
        return "–"
    if one.low is None or math.isnan(one.low):
        return number(one.value, digits)
    low, high = number(one.low, digits), number(one.high, digits)
    return f"{number(one.value, digits)} [{low}, {high}]"


def detail(told: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A figure among details, with its interval where there is one."""
    return figure(Figure(told[name], *told.get(f"{name}_interval", ())), digits)


def difference(one: Difference | Figure | None) -> str:
    """+0.051 [+0.020, +0.080] *, where the interval does not hold 0"""
    if one is None or math.isnan(one.value):
        return "–"
    if one.low is None or one.high is None or math.isnan(one.low):
        return f"{one.value:+.3f}"
    certain = " *" if one.low > 0 or one.high < 0 else ""
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{certain}"


def share(value: float | None) -> str:
    """0.0012 -> 0.12 %"""
    return "–" if value is None or math.isnan(value) else f"{value * 100:.3g} %"


def _all(report: Report) -> Table:
    measures = _present(TITLES, [one.figures for one in report.detectors.values()])
    return Table(
        "All detectors",
        ["detector", *(TITLES[m] for m in measures)],
        [
            [name, *(figure(one.figures.get(m)) for m in measures)]
            for name, one in report.detectors.items()
        ],
        f"Prevalence {share(report.counts['prevalence'])}: the average precision of chance. In "
        "brackets 95 % intervals over users and campaigns. Budgets are never exceeded: of equal "
        "scores all are alerted or none.",
    )


def _differences(report: Report) -> Iterator[Table]:
    measures = _present(TITLES, [one.figures for one in report.detectors.values()])
    rows = []
    for name, found in report.differences.items():
        gap = found[AP]
        rows.append(
            [name, difference(gap.misses_removed), *(difference(found.get(m)) for m in measures)]
        )
    yield Table(
        f"{report.reference} less each other, on the same resamples",
        ["other", "share of misses removed", *(TITLES[m] for m in measures)],
        rows,
        "A gain whose interval holds 0 is no gain; an asterisk marks the others. Misses removed: "
        f"1 - (1 - AP of {report.reference}) / (1 - AP of the other). Of the share before the "
        "first alert, less is better.",
    )
    rows = []
    for name, by_group in report.group_differences.items():
        for group in ("difficulty", "seen", "place"):
            told = by_group.get(group, {})
            for value in (value for value in report.groups.get(group, {}) if value in told):
                found = told[value]
                rows.append(
                    [
                        name,
                        value,
                        difference(found[AP].misses_removed),
                        *(difference(found.get(m)) for m in (AP, "recall@1%", LOOK_ALIKE_AUC)),
                    ]
                )
    yield Table(
        f"{report.reference} less each other, by kind of attack",
        [
            "other",
            "attacks",
            "share of misses removed",
            *(_SHORT[m] for m in (AP, "recall@1%", LOOK_ALIKE_AUC)),
        ],
        rows,
    )


def _group(report: Report, group: str, title: str) -> Table:
    values = report.groups.get(group, {})
    held = {name: one.groups.get(group, {}) for name, one in report.detectors.items()}
    measures = _present(_BY_GROUP, [found for one in held.values() for found in one.values()])
    rows = []
    for value, count in values.items():
        for at, (name, one) in enumerate(held.items()):
            about = f"{count.anomalies:,} in {count.campaigns:,}" if at == 0 else ""
            rows.append(
                [
                    value if at == 0 else "",
                    about,
                    share(count.prevalence) if at == 0 else "",
                    name,
                    *(figure(one.get(value, {}).get(m)) for m in measures),
                ]
            )
    return Table(
        title,
        [group, "events in campaigns", "prevalence", "detector", *(_SHORT[m] for m in measures)],
        rows,
        "Each against the normal events of its own."
        if group == "task"
        else "Anomalies of the group against all normal events; other anomalies are left out.",
    )


def _delays(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        for budget, told in one.details["delays"].items():
            count = told["campaigns"]
            within, until = told["noticed_within_events"], told["noticed_within_seconds"]
            rows.append(
                [
                    name,
                    _budget_name(budget),
                    f"{told['noticed']:,} of {count:,}",
                    number(told["median_events"], 0),
                    _time(told["median_seconds"]),
                    *(share(within[n]) for n in ("1", "3", "10")),
                    *(share(until[n]) for n in ("60", "600", "3600")),
                ]
            )
    return Table(
        "Detection delay: a campaign's first alert",
        [*_DELAY],
        rows,
        "Medians are over noticed campaigns; shares are of all, so they compare between detectors.",
    )


def _look_alikes(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        for budget, told in one.details["look_alikes"].items():
            kinds = told["share_alerted"]
            alarms = share(told["share_of_false_alarms"])
            rows.append([name, _budget_name(budget), alarms, *(share(v) for v in kinds.values())])
    kinds = list(report.counts["look_alikes"])
    return Table(
        "Look-alikes inside the alert budgets",
        ["detector", "budget", "of false alarms", *(k.replace("_", " ") for k in kinds)],
        rows if kinds else [],
        "How many of a kind's events are alerted where that share of clean events may be.",
    )


def _campaign_alerts(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        if told := one.details.get("campaign_alerts"):
            alike = ", ".join(f"{count} {kind}" for kind, count in told["of_look_alikes"].items())
            families = ", ".join(
                f"{family} {own['found']} of {own['campaigns']}".replace("_", " ")
                for family, own in told["families"].items()
            )
            rows.append(
                [
                    name,
                    f"{told['found']:,} of {told['campaigns']:,}",
                    share(told["median_before"]),
                    f"{told['of_campaigns']:,} of {told['alerts']:,}",
                    alike.replace("_", " ") or "none",
                    families,
                ]
            )
    return Table(
        "Campaign alerts: decisions joined as in the stream",
        [
            *("detector", "campaigns of 3 users found", "median share of events before"),
            *("alerts about a campaign", "about look-alikes", "by family"),
        ],
        rows,
        "An alert is about what most of its users are part of. The median is over campaigns found.",
    )


def _look_alike_users(report: Report) -> Table:
    kinds = [*report.counts["look_alikes"], OTHERS]
    rows = [
        [name, _budget_name(budget), *(share(told.get(kind)) for kind in kinds)]
        for name, one in report.detectors.items()
        for budget, told in one.details["look_alike_users"].items()
    ]
    return Table(
        "Users of look-alikes inside the alert budgets",
        ["detector", "budget", *(k.replace("_", " ") for k in kinds)],
        rows if len(kinds) > 1 else [],
        "The share of a kind's users that are alerted by its events, where that share of clean "
        "users may be; others have no such event.",
    )


def _decisions(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        if told := one.details.get("decisions"):
            names = ("accuracy", "precision", "recall", "f1")
            by_task = ", ".join(f"{t} {number(d['f1'])}" for t, d in told["task"].items())
            rate = share(told["false_positive_rate"])
            rows.append([name, *(number(told[n]) for n in names), rate, by_task])
    return Table(
        "Decisions",
        ["detector", "accuracy", "precision", "recall", "F1", "false alarms", "F1 by task"],
        rows,
        "A model by its own thresholds; a baseline by 0.5 after calibration on the history, or, "
        "without labels there, by the limit of the 1 % budget.",
    )


def _classes(report: Report) -> Table:
    told = report.detectors[report.reference].details.get("decisions")
    found: dict[str, Any] = told["classification_report"] if told else {}
    return Table(
        f"Classification report of {report.reference}",
        ["class", "precision", "recall", "F1", "events"],
        [
            [
                name,
                *(number(row[n]) for n in ("precision", "recall", "f1")),
                f"{row['support']:,}",
            ]
            for name, row in found.items()
        ],
    )


def _calibration(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        if told := one.details.get("calibration"):
            rows.append(
                [
                    name,
                    detail(told, "expected_calibration_error", 4),
                    number(told["expected_calibration_error_equal_width"], 4),
                    number(told["brier"], 4),
                    number(told["brier_skill"]),
                    share(told["mean_probability"]),
                    share(told["prevalence"]),
                    ", ".join(f"{t} {number(v, 4)}" for t, v in told["task"].items()),
                ]
            )
    return Table(
        "Calibration",
        [*_CALIBRATION],
        rows,
        "In 15 bins of equal mass; asked is 0.02 at most. Skill: 1 is perfect, 0 is always saying "
        "the prevalence.",
    )


def _budgets(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        for told in one.details.get("budgets", {}).values():
            days = list(told["by_day"].values())
            rows.append(
                [
                    name,
                    share(told["asked"]),
                    _achieved(told),
                    detail(told, "ratio", 2),
                    f"{share(min(days))} – {share(max(days))}",
                    share(told["recall"]),
                ]
            )
    return Table(
        "Alert budgets: asked on earlier events, achieved on these",
        ["detector", "asked", "achieved", "ratio", "lowest and highest day", "recall"],
        rows,
        "Share of clean events above a limit that was set before. Asked is a ratio of 0.8 to 1.2. "
        "Intervals are over the users judged; that the limit came of other users is not in them.",
    )


def _achieved(told: Mapping[str, Any]) -> str:
    between = " to ".join(share(value) for value in told.get(ACHIEVED, ()))
    return share(told["achieved"]) + (f" [{between}]" if between else "")


def _runs(report: Report) -> Table:
    rows = []
    for name, one in report.detectors.items():
        for measure, by_seed in one.runs.items():
            sd = one.figures[measure].sd
            if sd is not None:
                told = "; ".join(", ".join(number(v) for v in row) for row in by_seed)
                mean = f"{number(one.figures[measure].value)} ± {number(sd)}"
                rows.append([name, _SHORT[measure], mean, told])
    return Table(
        "Draws and seeds",
        ["detector", "measure", "mean ± sd", "by draw; by seed"],
        rows,
    )


def _leaks(evaluation: Evaluation) -> Table:
    """All fields, those that tell most first: that nothing leaks is a result as well."""
    rows = []
    for at, told in enumerate(evaluation.leaks, 1):
        ranked = sorted(told["fields"].items(), key=lambda field: -abs(field[1] - 0.5))
        for name, area in ranked:
            verdict = "leaks" if name in told["leaks"] else ""
            rows.append([str(at), name, told["against"], number(area), verdict])
    return Table(
        "Leak audit: whether one raw field gives attacks away",
        ["draw", "field of one event", "of", "ROC-AUC", ""],
        rows,
        f"Beyond {LIMIT} either way, an attack shows in how the field was made up, not in what the "
        "account does: figures on these attacks are too good for every detector.",
    )


def _drift(evaluation: Evaluation) -> Table:
    def words(value: float) -> str:
        return "little" if value < LITTLE else "some" if value < MUCH else "a lot"

    ranked = sorted(evaluation.drift.items(), key=lambda item: -item[1])
    return Table(
        "Drift from the history to the judged events",
        ["field", "population stability index", ""],
        [[name, number(value), words(value)] for name, value in ranked],
    )


def _present(measures: Any, figures: Sequence[Figures]) -> list[str]:
    return [m for m in measures if any(m in one for one in figures)]


def _budget_name(budget: str) -> str:
    if budget.endswith("users"):
        return f"{budget.split('/')[0]} of 1,000 clean users"
    return f"{budget.removesuffix('%')} % of clean events"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
