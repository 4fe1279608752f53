"""What is known of the judged events: what scores are held against."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import Dataset
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

Flags = NDArray[np.bool_]
Texts = NDArray[np.str_]

SEEN: Final = "seen in training"
UNSEEN: Final = "not seen in training"
_ATTRIBUTES: Final = ("family", "difficulty", "place", "look_alike")


class Truth(Struct, frozen=True, kw_only=True):
    """One row an event; within a draw in order of arrival.

    A draw is one labelled data set of several over the same background. Figures are means over the
    draws, never taken across them. Users of equal name are the same person in every draw, so they
    are resampled together; campaigns belong to one draw.

    `groups`: an event's task, family, difficulty, place, whether its family was seen in training,
    ... as text, "" where there is none. Anomalies of a group that normal events have as well (a
    task, a part of the shop) stand against the normal events of that group, others against all.
    `look_alike` is special: the kind of normal events that resemble attacks.
    """

    anomalous: Flags  # (events,)
    user: Texts  # (events,)
    at_ms: Ints  # (events,) event time
    campaign: Texts  # (events,) "" where none; an anomaly without one belongs to its user's
    draw: Ints  # (events,) from 0
    groups: Mapping[str, Texts]

    def __len__(self) -> int:
        return len(self.anomalous)

    def take(self, which: Ints | Flags) -> Truth:
        """Some of the events, in their order."""
        return Truth(
            anomalous=self.anomalous[which],
            user=self.user[which],
            at_ms=self.at_ms[which],
            campaign=self.campaign[which],
            draw=self.draw[which],
            groups={name: values[which] for name, values in self.groups.items()},
        )

    def group(self, name: str) -> Texts:
        """Of each event; all "" if nothing is known of the group."""
        found = self.groups.get(name)
        return np.full(len(self), "", np.str_) if found is None else found


def truth_of(
    data: Dataset,
    events: Ints,
    task_names: Sequence[str],
    *,
    seen: Collection[str] | None = None,
    unseen: Collection[str] = (),
    draw: int = 0,
) -> Truth:
    """What a data set's labels say of `events`. An event without a label counts as normal.

    `seen`: families of attacks that training had, or `unseen`: those that it had not. With neither,
    nothing is told apart by it.
    """
    groups: dict[str, Texts] = {"task": np.array(task_names, np.str_)[data.task[events]]}
    labels = [data.labels[at] for at in events.tolist()]
    for name in _ATTRIBUTES:
        groups[name] = _texts([getattr(label, name, None) or "" for label in labels])
    if seen is not None or unseen:
        family = groups["family"]
        known = np.isin(family, sorted(unseen), invert=True)
        if seen is not None:
            known &= np.isin(family, sorted(seen))
        told = np.where(known, SEEN, UNSEEN)
        groups["seen"] = np.where(family != "", told, "")
    return Truth(
        anomalous=data.anomalous[events],
        user=np.array(data.users, np.str_)[data.user[events]],
        at_ms=data.windows.rows["at_ms"][data.row[events]].astype(np.int64),
        campaign=_texts([(label and label.campaign) or "" for label in labels]),
        draw=np.full(len(events), draw),
        groups=groups,
    )


def joined(truths: Sequence[Truth]) -> Truth:
    """Draws one after another, numbered anew in that order."""
    sizes = [int(t.draw.max(initial=0)) + 1 for t in truths]
    first = np.cumsum([0, *sizes])
    names = sorted({name for t in truths for name in t.groups})
    return Truth(
        anomalous=np.concatenate([t.anomalous for t in truths]),
        user=np.concatenate([t.user for t in truths]),
        at_ms=np.concatenate([t.at_ms for t in truths]),
        campaign=np.concatenate([t.campaign for t in truths]),
        draw=np.concatenate([t.draw + int(at) for t, at in zip(truths, first, strict=False)]),
        groups={name: np.concatenate([t.group(name) for t in truths]) for name in names},
    )


def check(truth: Truth) -> None:
    """Raises Misconfigured if there is nothing to measure: no events, or one class alone."""
    lengths = {name: len(v) for name, v in truth.groups.items()}
    lengths |= {n: len(getattr(truth, n)) for n in ("user", "at_ms", "campaign", "draw")}
    for name, length in lengths.items():
        if length != len(truth):
            raise Misconfigured(f"the truth has {len(truth)} events, but {length} of {name}")
    for draw in np.unique(truth.draw).tolist():
        own = truth.anomalous[truth.draw == draw]
        if own.all() or not own.any():
            which = "anomalous" if own.all() else "normal"
            raise Misconfigured(
                f"all {len(own):,} events to judge (labelled draw {draw + 1}) are {which}: without "
                "both kinds there is nothing to measure. Give labels with both, for these files"
            )
    if not len(truth):
        raise Misconfigured("there is no event to judge")


def _texts(values: list[Any]) -> Texts:
    return np.array(values, np.str_) if values else np.zeros(0, np.str_)
