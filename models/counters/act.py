"""An event as the aggregates read it, and the columns of a data set that they read it from.

What a column holds is told by its type alone, so the aggregates work for every schema: the first
category is the item, the second what groups items, further ones are read lightly, those of 16 bits
last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from models.schema import COUNTED, MISSING_ORDINAL, Kind, Schema
from stream_app.core.window import HEAD, Ints

if TYPE_CHECKING:
    from models.dataset import Dataset

SLOTS: Final = 8  # event types told apart; further ones share the last slot
NAN: Final = math.nan
MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0
_AHEAD_S: Final = 2 * DAY  # a time further ahead of the stream than this is not believed


class Fields(Struct, frozen=True):
    """The columns of a row, by what they hold."""

    categories: tuple[str, ...]
    amounts: tuple[str, ...]
    ordinals: tuple[str, ...]

    @classmethod
    def of(cls, row: np.dtype[np.void]) -> Fields:
        skipped = {name for name, _ in HEAD} | {"type", "spare"}
        names = [n for n in row.names or () if n not in skipped and not n.startswith(COUNTED)]

        def like(*forms: str) -> tuple[str, ...]:
            return tuple(n for n in names if row[n].str.lstrip("<|=") in forms)

        return cls((*like("u4"), *like("u2")), like("f2", "f4"), like("u1"))

    @classmethod
    def of_schema(cls, schema: Schema) -> Fields:
        """The event's own, without what the site saw."""
        categories = sorted(schema.of_kind("category"), key=lambda f: -f.bits)

        def names(*kinds: Kind) -> tuple[str, ...]:
            return tuple(f.name for f in schema.of_kind(*kinds))

        return cls(tuple(f.name for f in categories), names("amount"), names("ordinal"))


class Act(Struct, array_like=True, gc=False):
    """One event. A category is 0, a value NaN, where there is none."""

    user: int
    at_s: float  # event time as far as it is believed
    slot: int  # of its type, from 0
    item: int
    group: int
    others: tuple[int, ...]  # further categories
    values: tuple[float, ...]  # amounts, then ordinals


def streams(data: Dataset) -> list[slice]:
    """The events of each stream of `data`: of one, or of several that `dataset.concat` put behind
    one another. Each has a past of its own, though users and items may be called the same.
    """
    names = data.users  # ascending within a stream
    began = np.array([at > 0 and names[at] <= names[at - 1] for at in range(len(names))], bool)
    number = np.cumsum(began)[data.user]
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(data)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if a < b]


def acts(data: Dataset, part: slice) -> Iterator[Act]:
    """The events of a stream of `data` in order of arrival."""
    rows: Any = data.windows.rows[data.row[part]]
    at_s = believed(rows["at_ms"].astype(np.int64))
    return acts_of(Fields.of(rows.dtype), rows, data.user[part].tolist(), at_s)


def acts_of(
    fields: Fields, rows: Any, users: Sequence[int], at_s: NDArray[np.float64]
) -> Iterator[Act]:
    """Of rows (events,) in order of arrival; `users` are numbers, `at_s` is `believed`."""
    count = len(rows)
    none = np.zeros(count, np.int64)
    categories = [rows[name].astype(np.int64) for name in fields.categories]
    item, group = (*categories, none, none)[:2]
    others = categories[2:]
    values = [rows[name].astype(np.float64) for name in fields.amounts]
    for name in fields.ordinals:
        value = rows[name].astype(np.float64)
        value[rows[name] == MISSING_ORDINAL] = NAN
        values.append(np.log1p(value))
    columns = [
        users,
        at_s.tolist(),
        np.clip(rows["type"].astype(np.int64) - 1, 0, SLOTS - 1).tolist(),
        item.tolist(),
        group.tolist(),
        list(zip(*(o.tolist() for o in others), strict=True)) if others else [()] * count,
        list(zip(*(v.tolist() for v in values), strict=True)) if values else [()] * count,
    ]
    return map(Act, *columns)


class Clock(Struct, array_like=True, gc=False):
    """`believed`, batch by batch."""

    newest: list[float] = field(default_factory=list)  # the last two times
    reached: float = -math.inf

    def read(self, at_ms: Ints) -> NDArray[np.float64]:
        at_s = np.concatenate([np.array(self.newest, np.float64), at_ms / 1000.0])
        reached = at_s.copy()
        for back in (1, 2):
            reached[back:] = np.minimum(reached[back:], at_s[: max(len(at_s) - back, 0)])
        own = slice(len(self.newest), None)
        until = np.maximum(np.maximum.accumulate(reached[own]), self.reached)
        self.newest = at_s[-2:].tolist()
        self.reached = float(until[-1]) if len(until) else self.reached
        return np.asarray(np.minimum(at_s[own], until + _AHEAD_S), np.float64)


def believed(at_ms: Ints) -> NDArray[np.float64]:
    """Event times in seconds; a clock that is far ahead must not age what the site remembers.

    The stream's own time is the largest that three events in a row have reached.
    """
    return Clock().read(at_ms)
