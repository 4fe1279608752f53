"""Attacks to learn from where nobody has labelled any: simulated, spliced into the user's data.

Each replica is another draw: other campaigns, accounts and targets, and some users without the
beginning of their history, so that honest newcomers turn up in the middle of it too. Look-alikes,
which are normal, are spliced as well. Of much data, a replica takes some users' events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.dataset import Dataset, Label, gather, lot
from models.lines import read as lines_of
from models.schema import Schema
from models.simulate.splice import behead, splice
from models.simulate.world import Label as Made
from models.training.watch import Watch
from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured
from stream_app.core.event import MAX_TIME_MS, Event
from stream_app.core.record import StoredRecord
from stream_app.core.window import WindowPolicy

RATE: Final = 0.10  # attack events, as a share of the real ones
COLD: Final = 0.08  # of a replica: its windows have hardly begun
BEHEADED: Final = 0.2  # of the users
EVENTS_AT_MOST: Final = 300_000  # real ones, in a replica

RawEvent = dict[str, object]


def replicas(
    paths: Sequence[Path],
    labels: Mapping[str, Label],
    events: int,
    count: int,
    seed: int,
    schema: Schema,
    policy: WindowPolicy,
    watch: Watch,
) -> list[Dataset]:
    """`count` of them, of files that hold so many `events`.

    Real events keep their labels. Raises Misconfigured if these events cannot be attacked.
    """
    seeds = [10 + at + 100 * seed for at in range(count)]
    chosen = raw_events(paths, schema, seeds, events)
    found = []
    for at, (number, some) in enumerate(zip(seeds, chosen, strict=True)):
        watch.step("simulating attacks", at, count)
        found.append(_replica(some, labels, number, schema, policy))
        some.clear()
    watch.end()
    return found


def attacked(
    real: list[RawEvent], seed: int, beheaded: float = BEHEADED
) -> tuple[list[RawEvent], list[Label]]:
    """Real events with attacks and look-alikes among them, and a label for each.

    `beheaded`: users that lose the beginning of their history. Raises Misconfigured if these
    events cannot be attacked.
    """
    if not real:
        raise Misconfigured("there is no event to attack")
    background = behead(real, beheaded, np.random.default_rng(seed)) if beheaded else real
    try:
        events, made = splice(background, seed, RATE)
    except (TypeError, ValueError, IndexError) as error:  # of data unlike a shop's
        raise Misconfigured(f"attacks cannot be simulated on it ({error})") from error
    return events, [_known(label) for label in made]


def _known(label: Made) -> Label:
    return Label(
        label.event_id,
        label.label,
        family=label.attack,
        difficulty=label.difficulty,
        campaign=label.campaign,
        place=label.place,
        look_alike=label.look_alike,
    )


def _replica(
    real: list[RawEvent],
    labels: Mapping[str, Label],
    seed: int,
    schema: Schema,
    policy: WindowPolicy,
) -> Dataset:
    events, made = attacked(real, seed)
    spliced = {label.event_id: label for label in made if label.label or label.look_alike}
    known = {**labels, **spliced}
    return gather([map(msgspec.json.encode, events)], known, schema, policy)


def raw_events(
    paths: Sequence[Path], schema: Schema, seeds: Sequence[int], events: int
) -> list[list[RawEvent]]:
    """For each seed the events of some users, of all if the files' `events` are not too many, as
    the contract has them, in order of arrival.
    """
    share = min(1.0, EVENTS_AT_MOST / max(events, 1))
    found: list[list[RawEvent]] = [[] for _ in seeds]
    takers: dict[str, list[int]] = {}
    for event in _decoded(lines_of(paths), schema):
        user = event.user_id
        if user not in takers:
            takers[user] = [at for at, s in enumerate(seeds) if lot(user, s) < share]
        if takers[user]:
            raw = _raw(event)
            for at in takers[user]:
                found[at].append(raw)
    return found


def _decoded(lines: Iterable[bytes], schema: Schema) -> Iterator[Event]:
    tasks = schema.tasks
    for offset, line in enumerate(lines):
        record = StoredRecord(
            topic="file", partition=0, offset=offset, timestamp=MAX_TIME_MS, key=None, value=line
        )
        yield from decode([record], tasks).events


def _raw(event: Event) -> RawEvent:
    held: dict[str, Any] = msgspec.to_builtins(event)
    return {key: value for key, value in held.items() if value is not None}
