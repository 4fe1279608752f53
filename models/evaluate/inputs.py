"""Files of a history and of labelled draws -> data sets, and which of their events are for what.

The history fills the windows and is what baselines may be fitted on; a draw is read after it, as
the stream would go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from models.dataset import Dataset, read, split
from models.schema import Schema
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

_SHARES: Final = (0.7, 0.3)  # of the history's users: to fit on, to choose and set limits on


class Inputs(Struct, frozen=True, kw_only=True):
    """Files; `tests` and `test_labels` go in pairs, one a draw."""

    data: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    valid: tuple[Path, ...] = ()
    valid_labels: tuple[Path, ...] = ()
    tests: tuple[Path, ...]
    test_labels: tuple[Path, ...]

    def check(self) -> None:
        """Raises Misconfigured."""
        if not self.tests or not self.test_labels:
            raise Misconfigured("give what is to be judged (--test) and its truth (--test-labels)")
        if len(self.test_labels) not in (1, len(self.tests)):
            raise Misconfigured(
                f"{len(self.tests)} --test but {len(self.test_labels)} --test-labels: give one for "
                "each draw, in the same order, or one for all"
            )
        if self.valid and not self.data:
            raise Misconfigured("--valid stands between --data and --test: give --data as well")
        if (self.labels and not self.data) or (self.valid_labels and not self.valid):
            raise Misconfigured("there are labels, but not the events that they are for")
        for path in self.files():
            if not path.is_file():
                raise Misconfigured(f"{path} is no file")

    def files(self) -> tuple[Path, ...]:
        return (
            *self.data,
            *self.labels,
            *self.valid,
            *self.valid_labels,
            *self.tests,
            *self.test_labels,
        )

    def labels_of(self, draw: int) -> Path:
        return self.test_labels[draw if len(self.test_labels) > 1 else 0]


class History(Struct, frozen=True):
    """What came before the draws."""

    data: Dataset
    fit_on: Ints
    choose_on: Ints
    labelled: bool


def read_history(inputs: Inputs, schema: Schema, policy: WindowPolicy, seed: int) -> History:
    """With `valid`, that is what to choose on; else some users of the history.

    Raises Misconfigured.
    """
    labels = [*inputs.labels, *inputs.valid_labels]
    data = read([*inputs.data, *inputs.valid], labels, schema, policy)
    if labels and not any(label is not None for label in data.labels):
        raise Misconfigured(
            f"none of the labels in {_named(labels)} is of an event in "
            f"{_named([*inputs.data, *inputs.valid])}: do the files belong together?"
        )
    if inputs.valid:
        later = data.file >= len(inputs.data)
        fit_on, choose_on = np.flatnonzero(~later), np.flatnonzero(later)
    else:
        fit_on, choose_on = split(data, _SHARES, seed)
    if not len(fit_on) or not len(choose_on):
        raise Misconfigured(
            "the history has too few users to fit baselines on some and choose by others: "
            "give more --data, or --valid"
        )
    return History(data, fit_on, choose_on, bool(labels))


def read_draw(
    inputs: Inputs, draw: int, schema: Schema, policy: WindowPolicy
) -> tuple[Dataset, Ints]:
    """A draw after the history; and its events to be judged.

    Raises Misconfigured if its labels are of other events.
    """
    path, labels = inputs.tests[draw], inputs.labels_of(draw)
    data = read(
        [*inputs.data, *inputs.valid, path],
        [*inputs.labels, *inputs.valid_labels, labels],
        schema,
        policy,
    )
    events = np.flatnonzero(data.file == len(inputs.data) + len(inputs.valid))
    if not len(events):
        raise Misconfigured(f"no event in {path} is new after the history: nothing to judge")
    if all(data.labels[at] is None for at in events.tolist()):
        raise Misconfigured(
            f"none of the labels in {labels} is of an event in {path}: do the files belong "
            "together?"
        )
    return data, events


def hashed(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by file name as given."""
    found = {}
    for path in paths:
        with path.open("rb") as file:
            found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
