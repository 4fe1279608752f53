"""What a reader of a report has to know of how it came to be, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.dataset import Dataset
from models.evaluate.inputs import Inputs
from stream_app.core.window import Ints


def baselines(inputs: Inputs, settings: Iterable[str], left_out: Sequence[str]) -> list[str]:
    """Of what they were fitted to, and how they decide."""
    notes = []
    if told := ", ".join(settings):
        notes.append(f"Settings other than the usual ones, from --settings: {told}.")
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        notes.append(f"Left out, because the history has no labels to learn from: {names}.")
    if not inputs.valid:
        notes.append(
            "Limits for budgets, and the calibration of baselines, come from 30 % of the history's "
            "users, those that `train` keeps aside of the same file by the same seed. A model that "
            "was trained on them knows them, so its limits are too low; --valid takes later events."
        )
    if inputs.labelled:
        return notes
    if inputs.simulate:
        notes.append(
            "The history has no labels: what learns from labels is fitted to "
            f"{inputs.simulate} draws of it with simulated attacks."
        )
    if not inputs.truth_simulated or inputs.valid:
        notes.append(
            "The history has no labels: baselines have no calibration and decide by the limit of "
            "the 1 % budget."
        )
    return notes


def draw(data: Dataset, events: Ints, number: int) -> list[str]:
    notes = []
    without = sum(data.labels[at] is None for at in events.tolist())
    if without:
        notes.append(
            f"Draw {number + 1}: {without:,} of {len(events):,} events have no label and count as "
            "normal."
        )
    if data.put_aside:
        notes.append(
            f"Draw {number + 1}: {data.put_aside:,} lines, of the history too, were put aside as "
            "the stream would: malformed, late or repeated."
        )
    return notes


def simulation(inputs: Inputs) -> str:
    """What figures on a simulated truth are worth."""
    named = ", ".join(str(path) for path in inputs.tests)
    return (
        f"The truth is simulated, as there are no labels of {named}: attacks and look-alikes are "
        f"spliced in, {inputs.simulate} times each, by the simulation that `train` has, with other "
        "seeds; real events count as normal, whatever they are. So figures say how such attacks "
        "are found in this traffic, not how those are that there may be. There are far more of "
        "them than in use: precision and calibration are those at their share, and average "
        "precision at 1 % is told beside. A model that learnt from simulated attacks knows their "
        "families."
    )
