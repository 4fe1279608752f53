"""Several members' raw scores -> one calibrated score.

Each member is put on one scale, the log-odds of an anomaly (Platt, on held-out users), the mean of
them is taken with fixed weights, and calibrated again. Weights are not learnt: a model over members
learns to trust the one that knows the attacks it was fitted to, and fails on new ones.

The mean of some members is spread otherwise than that of all, so every set of members has a final
calibration of its own, fitted on the same users: leaving a member out at serving time costs
accuracy, not calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from models import calibration as calibrations
from models.calibration import Calibration, Line
from stream_app.core.score import Floats
from stream_app.core.window import Ints

ENCODERS: Final = 1 / 3  # of the weight, evenly; the rest is the trees'
_AS_IT_IS: Final = Line(1.0, 0.0, 0, 0)

Matrix = NDArray[np.floating[Any]]  # (events, members)


class Fusion(Struct, frozen=True, forbid_unknown_fields=True):
    """How members become one score."""

    scales: dict[str, tuple[Line, ...]]  # member -> raw score to log-odds, by task index
    finals: dict[str, Calibration]  # by set of members, as `key` names it

    def complaint(self, names: Sequence[str], tasks: int) -> str | None:
        """What is wrong with it for these members and so many tasks."""
        finals = self.finals.values()
        sizes = {len(lines) for lines in self.scales.values()} | {len(f.lines) for f in finals}
        if sizes | {len(f.thresholds) for f in finals} != {tasks}:
            return f"its calibration is not for the {tasks} tasks of its schema"
        if not all(len(f.clean) in (0, 1, tasks) and all(t.sound for t in f.clean) for f in finals):
            return "its p-values are not for its tasks, or their table is in disorder"
        sets = (key(some) for n in range(1, len(names) + 1) for some in combinations(names, n))
        if set(self.scales) != set(names) or not set(sets) <= set(self.finals):
            return "its calibration is not for its members"
        return None

    def final(self, names: Sequence[str]) -> Calibration:
        """Raises KeyError for a set of members that has none."""
        return self.finals[key(names)]

    def only(self, names: Sequence[str]) -> Fusion:
        """Of some members alone."""
        scales = {name: lines for name, lines in self.scales.items() if name in names}
        kept = {k: final for k, final in self.finals.items() if set(k.split("+")) <= set(names)}
        return Fusion(scales, kept)

    def without_tails(self) -> Fusion:
        """Without p-values: they are of the very scores that they were made of."""
        bare = {k: structs.replace(final, clean=()) for k, final in self.finals.items()}
        return structs.replace(self, finals=bare)

    def with_final(self, names: Sequence[str], final: Calibration) -> Fusion:
        """Calibrated anew for this set of members."""
        return structs.replace(self, finals={**self.finals, key(names): final})

    def log_odds(self, raw: Matrix, names: Sequence[str], tasks: Ints) -> NDArray[np.float32]:
        """(events, members) on one scale."""
        found: NDArray[np.float32] = np.empty(raw.shape, np.float32)
        for at, name in enumerate(names):
            slope = np.array([line.slope for line in self.scales[name]])[tasks]
            offset = np.array([line.offset for line in self.scales[name]])[tasks]
            found[:, at] = slope * raw[:, at] + offset
        return found

    def mean(self, raw: Matrix, names: Sequence[str], trees: Sequence[str], tasks: Ints) -> Floats:
        """(events,) the fused score, to be calibrated by `final`. `trees`: who of them is."""
        weights = weigh(names, trees)
        return np.asarray(self.log_odds(raw, names, tasks) @ weights, np.float32)


def alone(name: str, final: Calibration) -> Fusion:
    """Of one member: its raw score is the fused one."""
    return Fusion({name: (_AS_IT_IS,) * len(final.lines)}, {key([name]): final})


def key(names: Sequence[str]) -> str:
    return "+".join(sorted(names))


def weigh(names: Sequence[str], trees: Sequence[str]) -> NDArray[np.float32]:
    """(members,) summing to 1: one third to the encoders, two to the trees, where there are both.

    Several of a kind err alike; a kind's weight does not grow with their number.
    """
    of_trees = np.array([name in trees for name in names])
    if of_trees.all() or not of_trees.any():
        return np.full(len(names), 1 / len(names), np.float32)
    share: NDArray[np.float64] = np.where(
        of_trees, (1 - ENCODERS) / of_trees.sum(), ENCODERS / (~of_trees).sum()
    )
    return share.astype(np.float32)


def fit(
    raw: Mapping[str, Floats],
    trees: Sequence[str],
    anomalous: NDArray[np.bool_],
    tasks: Ints,
    task_count: int,
    prior: float | None = None,
) -> Fusion:
    """From what each member says of held-out users' events; `trees`: who of them is.

    `prior` as for `calibration.fit`.
    """
    names = tuple(raw)
    if len(names) == 1:
        final = calibrations.fit(raw[names[0]], anomalous, tasks, task_count, prior)
        return alone(names[0], final)
    scales = {
        name: calibrations.fit(raw[name], anomalous, tasks, task_count).lines for name in names
    }
    fusion = Fusion(scales, {})
    for size in range(1, len(names) + 1):
        for some in combinations(names, size):
            table = np.stack([raw[name] for name in some], 1)
            mean = fusion.mean(table, some, trees, tasks)
            final = calibrations.fit(mean, anomalous, tasks, task_count, prior)
            fusion.finals[key(some)] = final
    return fusion
