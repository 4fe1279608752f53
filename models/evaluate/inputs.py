"""Files of a history and of labelled draws -> data sets, and which of their events are for what.

The history fills the windows and is what baselines may be fitted on, parted as `train` parts it; a
draw is read after it, as the stream would go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from models.baselines.detector import Draw
from models.dataset import Dataset, read, split
from models.schema import Schema
from models.training.parts import CHOOSE, FIT, SHARES, by_lot
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy


class Inputs(Struct, frozen=True, kw_only=True):
    """Files. Labels of `valid` and `tests` go with them in pairs, or one file is for all.

    `simulate`: draws with simulated attacks where there are no labels at all, of the history to fit
    to, and of each of `tests` to judge by.
    """

    data: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    valid: tuple[Path, ...] = ()
    valid_labels: tuple[Path, ...] = ()
    tests: tuple[Path, ...]
    test_labels: tuple[Path, ...] = ()
    simulate: int = 0

    def check(self) -> None:
        """Raises Misconfigured."""
        if not self.tests or not (self.test_labels or self.simulate):
            raise Misconfigured(
                "give what is to be judged (--test) and its truth: --test-labels, or attacks that "
                "are simulated in it (--simulate 2)"
            )
        for name, files, labels in (
            ("--test", self.tests, self.test_labels),
            ("--valid", self.valid, self.valid_labels),
        ):
            if len(labels) not in (1, len(files)) and labels:
                raise Misconfigured(
                    f"{len(files)} {name} but {len(labels)} {name}-labels: give one for each draw, "
                    "in the same order, or one for all"
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

    @property
    def labelled(self) -> bool:
        """Whether there is something to learn from labels."""
        return bool(self.labels or self.valid_labels)

    @property
    def truth_simulated(self) -> bool:
        """Whether what is judged has no labels but those of simulated attacks."""
        return not self.test_labels

    @property
    def teaches(self) -> bool:
        """Whether what learns from labels has some, given or simulated."""
        return self.labelled or self.simulate > 0

    @property
    def draws(self) -> int:
        return len(self.tests) * (self.simulate if self.truth_simulated else 1)


class History(Struct, frozen=True):
    """What came before: data sets over the same background, and which of their events are to fit
    on, and which to choose and set limits on.
    """

    draws: tuple[Draw, ...]
    by: tuple[Draw, ...]  # those that limits and calibrations are set on
    families: frozenset[str]  # of attacks, by the labels of all of it
    taught: tuple[Draw, ...] = ()  # with simulated attacks, where there are no labels


def read_history(inputs: Inputs, schema: Schema, policy: WindowPolicy, seed: int) -> History:
    """Users and campaigns 70 : 30, as `train` parts them by the same seed.

    Each of `valid` is read after the data, for itself; where there are any, what is chosen by
    comes from them alone. Raises Misconfigured.
    """
    base = read(inputs.data, inputs.labels, schema, policy)
    if inputs.labels and not any(label is not None for label in base.labels):
        raise _strangers(inputs.labels, inputs.data)
    fit_on, choose_on = split(base, (SHARES[FIT], 1 - SHARES[FIT]), seed)
    draws = [Draw(base, fit_on, choose_on)]
    if inputs.valid:
        part = np.zeros(len(base), np.int8)
        part[choose_on] = CHOOSE
        of_user = {base.users[u]: p for u, p in zip(base.user.tolist(), part.tolist(), strict=True)}
        draws = [
            _valid_draw(inputs, at, schema, policy, of_user, seed)
            for at in range(len(inputs.valid))
        ]
    if not all(len(draw.fit_on) and len(draw.choose_on) for draw in draws):
        raise Misconfigured(
            "the history has too few users to fit on some and choose by others: give more --data, "
            "or --valid"
        )
    families = {family for draw in draws for family in draw.data.of("family")} - {""}
    return History(tuple(draws), tuple(draws), frozenset(families))


def _valid_draw(
    inputs: Inputs,
    at: int,
    schema: Schema,
    policy: WindowPolicy,
    of_user: dict[str, int],
    seed: int,
) -> Draw:
    labels = _pair(inputs.valid_labels, at)
    data = read([*inputs.data, inputs.valid[at]], [*inputs.labels, *labels], schema, policy)
    new = data.file == len(inputs.data)
    if labels and all(data.labels[n] is None for n in np.flatnonzero(new).tolist()):
        raise _strangers(labels, inputs.valid[at : at + 1])
    part = by_lot(data, of_user, SHARES, seed)
    # The background is the same in all draws: it is fitted to once.
    to_fit = (part == FIT) & (new if at else True)
    return Draw(data, np.flatnonzero(to_fit), np.flatnonzero(new & (part > FIT)))


def read_draw(
    inputs: Inputs, draw: int, schema: Schema, policy: WindowPolicy
) -> tuple[Dataset, Ints]:
    """A draw to be judged, after the data and the first of `valid`; and its events.

    Raises Misconfigured if its labels are of other events.
    """
    path, labels = inputs.tests[draw], _pair(inputs.test_labels, draw)
    before = [*inputs.data, *inputs.valid[:1]]
    data = read(
        [*before, path],
        [*inputs.labels, *_pair(inputs.valid_labels, 0), *labels],
        schema,
        policy,
    )
    events = np.flatnonzero(data.file == len(before))
    if not len(events):
        raise Misconfigured(f"no event in {path} is new after the history: nothing to judge")
    if all(data.labels[at] is None for at in events.tolist()):
        raise _strangers(labels, [path])
    return data, events


def hashed(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by file name as given."""
    found = {}
    for path in paths:
        with path.open("rb") as file:
            found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _pair(labels: tuple[Path, ...], at: int) -> tuple[Path, ...]:
    return labels[at : at + 1] if len(labels) > 1 else labels


def _strangers(labels: Sequence[Path], events: Sequence[Path]) -> Misconfigured:
    def named(paths: Sequence[Path]) -> str:
        return ", ".join(map(str, paths))

    return Misconfigured(
        f"none of the labels in {named(labels)} is of an event in {named(events)}: do the files "
        "belong together?"
    )
