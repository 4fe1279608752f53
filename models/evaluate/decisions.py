"""Decisions against the truth: what a threshold made of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def decisions(decided: Flags, anomalous: Flags) -> dict[str, Any]:
    """Accuracy, precision, recall, F1, false alarms, and the classification report.

    Any shapes that fit. A ratio without anything to divide by is 0, as scikit-learn has it.
    """
    decided, anomalous = np.broadcast_arrays(decided, anomalous)
    right = int((decided & anomalous).sum())
    false = int((decided & ~anomalous).sum())
    missed = int((~decided & anomalous).sum())
    passed = int((~decided & ~anomalous).sum())
    total = right + false + missed + passed
    classes = {
        "normal": _of_class(passed, missed, false),
        "anomalous": _of_class(right, false, missed),
    }
    names = ("precision", "recall", "f1")
    support = [one["support"] for one in classes.values()]
    report: dict[str, dict[str, float]] = dict(classes)
    report["macro average"] = {
        n: float(np.mean([one[n] for one in classes.values()])) for n in names
    } | {"support": total}
    report["weighted average"] = {
        n: _ratio(sum(one[n] * s for one, s in zip(classes.values(), support, strict=True)), total)
        for n in names
    } | {"support": total}
    return {
        "accuracy": _ratio(right + passed, total),
        **{n: classes["anomalous"][n] for n in names},
        "false_positive_rate": _ratio(false, false + passed),
        "confusion": {"right": right, "false": false, "missed": missed, "passed": passed},
        "classification_report": report,
    }


def _of_class(right: int, false: int, missed: int) -> dict[str, float]:
    return {
        "precision": _ratio(right, right + false),
        "recall": _ratio(right, right + missed),
        "f1": _ratio(2 * right, 2 * right + false + missed),
        "support": right + missed,
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
