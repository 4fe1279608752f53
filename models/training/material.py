"""What a training has to learn from, and on whom it is judged: all draws as one data set.

    --data    users 70 : 15 : 15 to fit, choose, calibrate; a campaign stays with its users
    replicas  the same users and simulated attacks: to fit, and one more to judge by, if nothing
              else is labelled enough
    --valid   independent labelled draws, each read after --data and --history: users and campaigns
              70 : 15 : 15, or the users kept aside and all campaigns, to judge alone

Without labels, real events count as normal in the replicas, and are only guessed elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from msgspec import Struct

from models.dataset import Dataset, concat, read, read_labels, split
from models.schema import Schema
from models.simulate.look_alikes import CROWDS
from models.training.batches import Weights
from models.training.parts import CALIBRATE, CHOOSE, FIT, NOBODY, SHARES, Parts, by_lot
from models.training.replicas import COLD, replicas
from models.training.watch import Watch
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy

ENOUGH: Final = 20  # anomalies, to choose and to calibrate by
SIMULATED_PRIOR: Final = 0.01  # share of anomalies to expect, if only simulated ones are known
CROWDS_WEIGH: Final = 5.0  # of 1 to 10 none cost average precision on draws to choose by

ValidUse = Literal["fit", "select"]


class Sources(Struct, frozen=True, kw_only=True):
    """Files, and how many replicas with simulated attacks there shall be, of what weight."""

    data: Sequence[Path]
    labels: Sequence[Path] = ()
    valid: Sequence[Path] = ()
    valid_labels: Sequence[Path] = ()  # one for each of `valid`, or one for all
    valid_use: ValidUse = "fit"
    history: Sequence[Path] = ()  # earlier events of users of `valid`: they fill windows, no more
    simulate: float = 1.0  # simulated events together, against the labelled ones; 0: none
    replicas: int | None = None  # 4, or 8 on a GPU
    crowds: float = (
        CROWDS_WEIGH  # weight of an event of an honest crowd, a flash sale for one, in the loss
    )

    def check(self) -> None:
        """Raises Misconfigured."""
        if self.valid and len(self.valid_labels) not in (1, len(self.valid)):
            raise Misconfigured(
                f"{len(self.valid)} --valid but {len(self.valid_labels)} --valid-labels: give one "
                "for each, or one for all"
            )
        if self.valid_labels and not self.valid:
            raise Misconfigured("--valid-labels without --valid")
        if self.valid_use not in ("fit", "select"):
            raise Misconfigured(f"--valid-use is fit or select, not {self.valid_use!r}")
        if not self.simulate >= 0 or self.replicas == 0:
            raise Misconfigured("--simulate must be 0 or more, and there must be a replica")
        if not self.crowds > 0:
            raise Misconfigured("--crowds must be more than 0")

    def files(self) -> list[Path]:
        return [*self.data, *self.labels, *self.valid, *self.valid_labels, *self.history]


class Material(Struct, frozen=True, kw_only=True):
    """Positions of events in `data`; `weight` (events,) of the loss."""

    data: Dataset
    weight: Weights
    pretrain_on: Ints
    fit_on: Ints
    choose_on: Ints
    calibrate_on: Ints
    prior: float | None  # share of anomalies in use, where the parts are no fair sample of it
    judged_by: str  # what told of the anomalies among those who choose and calibrate


class _Draw(Struct):
    data: Dataset
    part: Parts
    simulated: bool = False
    labelled: bool = False  # by the user
    judges: bool = True  # may it choose and calibrate
    share: float = 0.0  # of anomalies, among what is new in it


def gather_material(
    sources: Sources, schema: Schema, policy: WindowPolicy, seed: int, watch: Watch
) -> Material:
    """Read all of it. Raises Misconfigured if there is too little, or it does not fit together."""
    sources.check()
    base = read(sources.data, sources.labels, schema, policy)
    watch.say(
        f"read {len(base)} events of {len(base.users)} users, "
        f"{int(base.anomalous.sum())} of them anomalies; {base.put_aside} put aside"
    )
    labelled = any(label is not None for label in base.labels)
    if sources.labels and not labelled:
        raise Misconfigured("no label has the event_id of an event: do the files belong together?")
    part = np.full(len(base), NOBODY, np.int8)
    for number, events in enumerate(split(base, SHARES, seed)):
        if not len(events):
            raise Misconfigured("there are too few users to keep some aside: train on more events")
        part[events] = number
    of_user = dict(zip([base.users[at] for at in base.user], part.tolist(), strict=True))
    draws = [_Draw(base, part, labelled=labelled, share=float(base.anomalous.mean()))]
    for at in range(len(sources.valid)):
        draws.append(_valid(sources, at, schema, policy, of_user, seed))
        watch.say(f"read {sources.valid[at].name} after it: {draws[-1].share:.2%} anomalies")
    draws[0].judges = len(draws) == 1  # later events judge, where there are such
    if sources.simulate > 0:
        draws += _simulated(sources, base, of_user, schema, policy, seed, watch)
    return _together(draws, sources.simulate, sources.crowds)


def _valid(
    sources: Sources,
    at: int,
    schema: Schema,
    policy: WindowPolicy,
    of_user: dict[str, int],
    seed: int,
) -> _Draw:
    labels = sources.valid_labels
    own = labels[at if len(labels) > 1 else 0]
    before = [*sources.history, *sources.data]
    data = read([*before, sources.valid[at]], [*sources.labels, own], schema, policy)
    new = data.file == len(before)
    if not any(label is not None for label, later in zip(data.labels, new, strict=True) if later):
        raise Misconfigured(
            f"no label in {own} has the event_id of an event in {sources.valid[at]}"
        )
    shares = SHARES if sources.valid_use == "fit" else (0.0, 0.5, 0.5)
    part = by_lot(data, of_user, shares, seed)
    if sources.valid_use == "select":
        part[part == FIT] = NOBODY
    part[~new] = NOBODY
    share = float(data.anomalous[new].mean())
    return _Draw(data, part, labelled=True, share=share)


def _simulated(
    sources: Sources,
    base: Dataset,
    of_user: dict[str, int],
    schema: Schema,
    policy: WindowPolicy,
    seed: int,
    watch: Watch,
) -> list[_Draw]:
    """Replicas to fit to, and one to judge by. None if such events cannot be attacked."""
    labels = read_labels(sources.labels)
    count = (sources.replicas or 4) + 1
    try:
        found = replicas(sources.data, labels, len(base), count, seed, schema, policy, watch)
    except Misconfigured as error:
        watch.say(f"no simulated attacks: {error}")
        return []
    draws = []
    for at, data in enumerate(found):
        last = at == count - 1
        part = by_lot(data, of_user, (0.0, 0.5, 0.5) if last else (1.0, 0.0, 0.0), seed)
        part[: int(COLD * len(data))] = NOBODY
        part[part == FIT if last else part != FIT] = NOBODY
        draws.append(_Draw(data, part, simulated=True, judges=last))
    attacks = sum(int(d.data.anomalous.sum()) for d in draws)
    watch.say(f"spliced attacks into {count} replicas: {attacks} events of them")
    return draws


def crowded(data: Dataset, crowds: float) -> Weights:
    """(events,) `crowds` for events of look-alikes of many users, 1 for all others. There are few
    such scenes in any data, and many users in each, who would be alerted together.
    """
    named = np.array(data.of("look_alike"), np.str_)
    return np.where(np.isin(named, sorted(CROWDS)), crowds, 1.0).astype(np.float32)


def _together(draws: list[_Draw], simulate: float, crowds: float) -> Material:
    labelled = [d for d in draws if d.labelled]
    judging = [d for d in labelled if d.judges]
    if not _enough(judging):
        judging += [d for d in draws if d.judges and d.simulated]
    data = concat([d.data for d in draws])
    base = np.cumsum([0, *(len(d.data) for d in draws)]).tolist()

    def positions(part: int, some: list[_Draw]) -> Ints:
        found = [
            np.flatnonzero(d.part == part) + at
            for d, at in zip(draws, base, strict=False)
            if any(d is one for one in some)
        ]
        return np.concatenate([np.zeros(0, np.int64), *found])

    fit_real, fit_made = (
        positions(FIT, some) for some in (labelled, [d for d in draws if d.simulated])
    )
    weight = np.zeros(len(data), np.float32)
    weight[fit_real] = 1.0
    weight[fit_made] = simulate * len(fit_real) / max(len(fit_made), 1) if len(fit_real) else 1.0
    weight *= crowded(data, crowds)
    fit_on = np.sort(np.concatenate([fit_real, fit_made]))
    pretrain_on = positions(FIT, draws[:1])
    if not len(fit_on):
        weight[pretrain_on] = 1.0
    return Material(
        data=data,
        weight=weight,
        pretrain_on=pretrain_on,
        fit_on=fit_on if len(fit_on) else pretrain_on,
        choose_on=positions(CHOOSE, judging or draws[:1]),
        calibrate_on=positions(CALIBRATE, judging or draws[:1]),
        prior=_prior(judging),
        judged_by=" and ".join(
            name
            for name, some in (
                ("labels", [d for d in judging if d.labelled]),
                ("simulated attacks", [d for d in judging if d.simulated]),
            )
            if some
        ),
    )


def _enough(judging: list[_Draw]) -> bool:
    """Whether there are anomalies enough to choose and to calibrate by."""
    counts = [
        sum(int(d.data.anomalous[d.part == part].sum()) for d in judging)
        for part in (CHOOSE, CALIBRATE)
    ]
    return min(counts) >= ENOUGH


def _prior(judging: list[_Draw]) -> float | None:
    """What is labelled says how many anomalies there are; simulated attacks say nothing of it."""
    told = [d.share for d in judging if d.labelled and d.share > 0]
    if told:
        return sum(told) / len(told)
    return SIMULATED_PRIOR if judging else None
