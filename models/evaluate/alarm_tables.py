"""Tables on whom a detector alerts within a budget: when, whom falsely, which campaigns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from models.evaluate.cells import Table, detail, number, share
from models.evaluate.details import OTHERS
from models.evaluate.report import Report
from models.evaluate.spread import ACHIEVED

_DELAY: Final = (
    *("detector", "budget", "campaigns noticed", "median event", "median time"),
    *("within 1 event", "3", "10", "within 1 min", "10 min", "1 h"),
)


def delays(report: Report) -> Table:
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


def look_alikes(report: Report) -> Table:
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


def campaign_alerts(report: Report) -> Table:
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


def look_alike_users(report: Report) -> Table:
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


def budgets(report: Report) -> Table:
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
