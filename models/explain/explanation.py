"""One event of a file: its field x event table, and what else a person wants to know of its score.

The window is the one that the stream scored, as of the event. Score and cells are those of all
chosen members by their weights; the reasons are an alert's, of the encoder that leads alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset
from models.explain.attribution import TOLERANCE, Method, attribute, by_cell
from models.explain.deletion import shortened
from models.explain.weighed import weighed
from models.explain.words import Array, Words
from models.reasons import strongest
from stream_app.core.event import Event
from stream_app.core.score import Reason
from stream_app.core.window import Ints


class Cell(Struct, frozen=True):
    """What one event had in one field, and how much that says."""

    observed: str
    expected: str
    unusual: bool  # outside of what is expected
    share: float  # of all that speaks for an anomaly; below 0 it speaks against one


class Field(Struct, frozen=True):
    """A row of the table."""

    name: str
    share: float  # of all its cells
    cells: tuple[Cell, ...]  # newest event first

    @property
    def strongest(self) -> float:
        return max(abs(cell.share) for cell in self.cells)


class Act(Struct, frozen=True):
    """A column of the table: one event of the window."""

    event_id: str
    type: str
    at_ms: int
    told: Mapping[str, str]  # what the event says of itself, by field of the contract
    share: float  # of all its cells
    without: float | None  # the calibrated score had this event not been; None for the scored one


class Explanation(Struct, frozen=True, kw_only=True):
    """`fields` from the strongest cell down; `acts` newest first: the scored event leads."""

    event_id: str
    user_id: str
    task: str
    at_ms: int
    model: str  # version of the bundle
    score: float  # calibrated, 0 to 1
    threshold: float
    p_value: float | None  # share of clean events that score so high; None: not known
    surprise: float  # nats
    members: Mapping[str, float]  # calibrated score of each alone
    weights: Mapping[str, float]  # of each in the score
    lead: str  # the encoder whose reasons an alert tells
    occluded: tuple[str, ...]  # members that were asked again without each cell: trees
    heard: float | None  # share that second looks add for what was said of the earlier events
    method: Method
    rise: float | None  # path, no trees: what the raw score rose over that of a typical window
    off: float | None  # path: how far the table's sum is from it
    reasons: tuple[Reason, ...]  # as in an alert
    fields: tuple[Field, ...]
    acts: tuple[Act, ...]

    @property
    def anomalous(self) -> bool:
        return self.score >= self.threshold

    @property
    def several(self) -> bool:
        """Whether others than the leading encoder make the score."""
        return set(self.weights) != {self.lead}

    @property
    def adds_up(self) -> bool:
        return self.off is None or self.off <= TOLERANCE * max(abs(self.rise or 0), 1)


def explain(
    bundle: Bundle,
    data: Dataset,
    event: int,
    known: Mapping[str, Event],
    method: Method = "gradient",
) -> Explanation:
    """`event`: its position in `data`. `known`: the window's events, by id, as far as at hand."""
    one, task = np.array([event]), data.task[[event]]
    windows = data.windows.take(one)
    (found,) = attribute(bundle.network, windows, task, bundle.device, method)
    every = weighed(bundle, windows, task, method, found)
    words = Words(bundle.network, bundle.statistics)
    rows = windows.rows[found.of.index[0]]
    own = by_cell(bundle.network, found.by_input)[0].cpu().numpy()
    shares = by_cell(bundle.network, torch.from_numpy(every.by_input)).numpy()
    values = found.described[0].float().cpu().numpy()
    total = max(float(np.maximum(shares, 0).sum()) + max(every.before or 0.0, 0.0), 1e-9)
    acts = _acts(bundle, data, event, rows, known, shares.sum(1) / total)
    score = bundles.score(bundle, windows, task)
    decision = bundle.calibration.decision
    limits, rare = decision.of(windows, task), decision.p_values(score, task)
    fields = _fields(words, shares / total, values, every.by_input, rows)
    return Explanation(
        event_id=acts[0].event_id,
        user_id=data.users[int(data.user[event])],
        task=bundle.schema.task_names[int(task[0])],
        at_ms=acts[0].at_ms,
        model=bundle.version,
        score=float(score[0]),
        threshold=float(limits[0]),
        p_value=None if rare is None else float(rare[0]),
        surprise=float(bundles.opinions(bundle, windows, task).surprise[0]),
        members=_members(bundle, data, event),
        weights=every.weights,
        lead=next(iter(bundle.members.encoders)),
        occluded=tuple(name for name in bundle.chosen if name in bundle.members.trees),
        heard=None if every.before is None else every.before / total,
        method=method,
        rise=every.rise,
        off=every.off,
        reasons=strongest(words, own, values, found.by_input[0].float().cpu().numpy(), rows),
        fields=tuple(sorted(fields, key=lambda f: -f.strongest)),
        acts=acts,
    )


def _fields(
    words: Words, shares: Array, values: Array, by_input: Array, rows: NDArray[np.void]
) -> list[Field]:
    made = []
    for cell, name in enumerate(words.cells):
        cells = []
        for place in range(len(rows) - 1, -1, -1):
            told = words.told(cell, values[place], by_input[place], rows[place])
            share = float(shares[place, cell])
            cells.append(Cell(told.observed, told.expected, told.unusual, share))
        made.append(Field(name, float(shares[:, cell].sum()), tuple(cells)))
    return made


def _acts(
    bundle: Bundle,
    data: Dataset,
    event: int,
    rows: NDArray[np.void],
    known: Mapping[str, Event],
    shares: Array,
) -> tuple[Act, ...]:
    ids = [data.event_ids[at] for at in window_events(data, event)]
    without: list[float | None] = [*_without(bundle, data, event), None]
    made = []
    for place in range(len(rows) - 1, -1, -1):
        row = rows[place]
        made.append(
            Act(
                ids[place],
                bundle.schema.type_names[int(row["type"]) - 1],
                int(row["at_ms"]),
                _told(known.get(ids[place])),
                float(shares[place]),
                without[place],
            )
        )
    return tuple(made)


def window_events(data: Dataset, event: int) -> Ints:
    """Positions in `data` of the events of the window of `event`, oldest first."""
    windows = data.windows
    rows = windows.index[event, windows.index.shape[1] - int(windows.length[event]) :]
    return np.searchsorted(data.row, rows)


def _without(bundle: Bundle, data: Dataset, event: int) -> list[float]:
    """The score without each earlier event, counts derived anew."""
    earlier = int(data.windows.length[event]) - 1
    if not earlier:
        return []
    same = data.windows.take(np.full(earlier, event))
    shorter = shortened(same, [np.array([place]) for place in range(earlier)])
    found: list[float] = bundles.score(bundle, shorter, data.task[[event] * earlier]).tolist()
    return found


def _members(bundle: Bundle, data: Dataset, event: int) -> dict[str, float]:
    """What each chosen member says alone."""
    windows, task = data.windows.take(np.array([event])), data.task[[event]]
    return {
        name: float(bundles.score(bundles.choose(bundle, [name]), windows, task)[0])
        for name in bundle.chosen
    }


def _told(event: Event | None) -> dict[str, str]:
    if event is None:
        return {}
    own = {
        name: getattr(event, name)
        for name in ("item_id", "category_id", "query", "position", "price", "quantity")
    }
    told = {**own, **(event.attributes or {})}
    return {name: str(value) for name, value in told.items() if value is not None}
