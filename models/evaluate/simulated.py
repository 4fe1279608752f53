"""Attacks and look-alikes spliced into what nobody labelled: to fit baselines to, to judge by.

They are of the same making as those that `train` splices, and never the same: campaigns, accounts
and targets are drawn by other seeds than those of any training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from msgspec import structs

from models.baselines.detector import Draw
from models.dataset import Dataset, Label, gather, read_labels
from models.evaluate.inputs import History, Inputs, read_draw
from models.lines import read as lines_of
from models.schema import Schema
from models.training.parts import CHOOSE, FIT, NOBODY, SHARES, by_lot
from models.training.replicas import BEHEADED, COLD, RawEvent, attacked, raw_events
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

_FIRST: Final = 1_000_000_000  # a training's seeds lie far below
_HISTORY: Final = 0  # which file is attacked; those to be judged count from 1


def taught(
    inputs: Inputs, history: History, schema: Schema, policy: WindowPolicy, seed: int
) -> History:
    """`history` with draws that have attacks in it, for what learns from labels.

    Its users are parted as they were, and campaigns likewise. Where what is judged is simulated
    too, limits and calibrations are set on these draws. Raises Misconfigured if the history cannot
    be attacked.
    """
    base = history.draws[0]
    seeds = [_seed(seed, _HISTORY, at) for at in range(inputs.simulate)]
    part = np.full(len(base.data), CHOOSE, np.int8)
    part[base.fit_on] = FIT
    users = [base.data.users[at] for at in base.data.user.tolist()]
    of_user = dict(zip(users, part.tolist(), strict=True))
    draws = []
    chosen = raw_events(inputs.data, schema, seeds, len(base.data))
    for own_seed, real in zip(seeds, chosen, strict=True):
        lines, labels = _spliced(
            real,
            own_seed,
            BEHEADED,
            "--data",
            "--labels, or --simulate 0 to leave out what learns from them",
        )
        data = gather([lines], labels, schema, policy)
        own = by_lot(data, of_user, SHARES, seed)
        own[: int(COLD * len(data))] = NOBODY
        draws.append(Draw(data, np.flatnonzero(own == FIT), np.flatnonzero(own > FIT)))
    by = tuple(draws) if inputs.truth_simulated and not inputs.valid else history.by
    return structs.replace(history, taught=tuple(draws), by=by)


def posed(
    inputs: Inputs, draw: int, schema: Schema, policy: WindowPolicy, seed: int
) -> tuple[Dataset, Ints, Iterable[bytes]]:
    """A draw to be judged, after the data and the first of `valid`; its events; its lines.

    Raises Misconfigured if its labels are of other events, if it cannot be attacked, or if nothing
    in it is new.
    """
    if not inputs.truth_simulated:
        return *read_draw(inputs, draw, schema, policy), lines_of([inputs.tests[draw]])
    at, number = divmod(draw, inputs.simulate)
    path, before = inputs.tests[at], [*inputs.data, *inputs.valid[:1]]
    own_seed = _seed(seed, 1 + at, number)
    (real,) = raw_events([path], schema, [own_seed], sum(1 for _ in lines_of([path])))
    # After a history, honest newcomers are those who are not in it.
    lines, made = _spliced(real, own_seed, 0.0 if before else BEHEADED, str(path), "--test-labels")
    known = read_labels([*inputs.labels, *inputs.valid_labels]) | made
    data = gather([*(lines_of([one]) for one in before), lines], known, schema, policy)
    events = np.flatnonzero(data.file == len(before))
    if data.anomalous[events].all():
        raise Misconfigured(f"no event in {path} is new after the history: nothing to judge")
    return data, events, lines


def _spliced(
    real: list[RawEvent], seed: int, beheaded: float, where: str, instead: str
) -> tuple[list[bytes], dict[str, Label]]:
    try:
        events, labels = attacked(real, seed, beheaded)
    except Misconfigured as error:
        raise Misconfigured(
            f"no attacks can be simulated in {where}: {error}. Give {instead}"
        ) from error
    return [msgspec.json.encode(event) for event in events], {one.event_id: one for one in labels}


def _seed(seed: int, file: int, draw: int) -> int:
    return _FIRST + 1_000_000 * seed + 1000 * file + draw
