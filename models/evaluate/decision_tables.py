"""Tables on decisions and probabilities: what is decided, and whether shares are as foretold."""

from __future__ import annotations

from typing import Any, Final

from models.evaluate.cells import Table, detail, number, share
from models.evaluate.report import Report

_CALIBRATION: Final = (
    *("detector", "expected calibration error", "… equal width", "Brier", "Brier skill"),
    *("mean probability", "prevalence", "error by task"),
)


def decisions(report: Report) -> Table:
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


def classes(report: Report) -> Table:
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


def calibration(report: Report) -> Table:
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
