"""How good scores are, given labels. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluate.panel import LOOK_ALIKE_AUC, against_look_alikes

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def average_precision(scores: Array, anomalous: Flags) -> float:
    """Mean precision over the anomalies; equal scores are one step. NaN without anomalies."""
    if not anomalous.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(anomalous[order])
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    precision = hits[last] / (np.flatnonzero(last) + 1)
    gained = np.diff(hits[last], prepend=0)
    return float((precision * gained).sum() / hits[-1])


def at_threshold(decided: Flags, anomalous: Flags) -> dict[str, float]:
    """Precision, recall and the share of normal events that were taken for anomalies."""
    right = int((decided & anomalous).sum())
    return {
        "precision": right / max(int(decided.sum()), 1),
        "recall": right / max(int(anomalous.sum()), 1),
        "false_alarm_rate": int((decided & ~anomalous).sum()) / max(int((~anomalous).sum()), 1),
    }


def detection(
    scores: Array,
    decided: Flags,
    anomalous: Flags,
    look_alike: Flags,
    groups: dict[str, Sequence[str]],
) -> dict[str, Any]:
    """The measures over all events, and by group (family, difficulty, task, ...).

    Anomalies of one value of a group stand against all normal events; of a group that normal events
    have as well (a task), against the normal events of that value. `look_alike`: normal events that
    resemble attacks; anomalies told from these alone are a measure of their own, NaN if they are
    too few, and of no group that normal events have as well.
    """
    alike = look_alike & ~anomalous
    found: dict[str, Any] = _of(scores, decided, anomalous)
    found[LOOK_ALIKE_AUC] = against_look_alikes(scores, anomalous, alike)
    for group, values in groups.items():
        value_of = np.array(values)
        shared = set(value_of[~anomalous].tolist()) - {""}
        found[group] = {}
        for value in sorted(set(value_of.tolist()) - {""}):
            own = value_of == value
            some = own if value in shared else own | ~anomalous
            found[group][value] = _of(scores[some], decided[some], anomalous[some])
            if value not in shared:
                area = against_look_alikes(scores, own & anomalous, alike)
                found[group][value][LOOK_ALIKE_AUC] = area
    return found


def _of(scores: Array, decided: Flags, anomalous: Flags) -> dict[str, Any]:
    return {
        "events": len(scores),
        "anomalies": int(anomalous.sum()),
        "prevalence": float(anomalous.mean()) if len(anomalous) else 0.0,
        "average_precision": average_precision(scores, anomalous),
        **at_threshold(decided, anomalous),
    }
