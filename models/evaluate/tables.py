"""What an evaluation found as tables of text, for Markdown and the page alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from models.evaluate import alarm_tables, decision_tables
from models.evaluate.cells import Table, difference, figure, number, share
from models.evaluate.drift import LITTLE, MUCH
from models.evaluate.panel import AP, AUC, LOOK_ALIKE_AUC, RARE_AP
from models.evaluate.report import Figures, Report
from models.evaluate.run import Evaluation
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


def tables(evaluation: Evaluation) -> list[Table]:
    """In the order in which one reads them; none that would be empty."""
    report = evaluation.report
    found = [_all(report), *_differences(report)]
    found += [_group(report, group, title) for group, title in _GROUPS.items()]
    others = [group for group in report.groups if group not in _GROUPS]
    found += [_group(report, group, f"By {group}") for group in others]
    found += [
        told(report)
        for told in (
            alarm_tables.delays,
            alarm_tables.campaign_alerts,
            alarm_tables.look_alikes,
            alarm_tables.look_alike_users,
            decision_tables.decisions,
            decision_tables.classes,
            decision_tables.calibration,
            alarm_tables.budgets,
            _runs,
        )
    ]
    found += [_leaks(evaluation), _drift(evaluation)]
    return [table for table in found if table.rows]


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
