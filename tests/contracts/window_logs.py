"""Users' histories, and what a WindowStore makes of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st

from stream_app.core.ports import WindowStore
from stream_app.core.record import Source
from stream_app.core.window import (
    HEAD,
    WindowPolicy,
    seq_of,
    source_tag,
)
from tests.core.oracle import Act, answers_of

ROW = np.dtype([*HEAD, ("type", "u1"), ("pad", "V15")])
POLICY = WindowPolicy(size=4, slack=3, span_ms=900, lateness_ms=60)
EVENTS = Source("events", 0)
MORE = Source("more-events", 0)
prefixes = count()
# Not shrunk: a failure would take minutes to tell.
RANDOM = settings(max_examples=150, deadline=None, phases=[Phase.reuse, Phase.generate])

Fresh = Callable[[], WindowStore]  # another store, without users
History = list[tuple[bytes, Act]]


def rows_of(acts: list[Act], source: Source = EVENTS) -> np.ndarray:
    rows = np.zeros(len(acts), ROW)
    for at, act in enumerate(acts):
        rows[at]["at_ms"], rows[at]["id"] = act.at_ms, act.id
        rows[at]["seq"] = seq_of(source_tag(source.topic), act.offset + 1)
    return rows


def committed(source: Source, offset: int) -> int:
    """All before `offset` is done."""
    return seq_of(source_tag(source.topic), offset)


@st.composite
def histories(draw: st.DrawFn, at_most: int = 60) -> History:
    """Users interleaved; times mostly rising, ties, small and large steps back, repeated ids."""
    acts: History = []
    now = 10_000
    for offset in range(draw(st.integers(1, at_most))):
        now += draw(st.sampled_from([0, 0, 7, 30, 200]))
        at_ms = now - draw(st.sampled_from([0, 0, 0, 0, 20, 61, 120, 1500]))
        user = draw(st.sampled_from([b"a", b"a", b"a", b"b", b"c"]))
        repeated = acts and draw(st.integers(0, 9)) == 0
        act_id = draw(st.sampled_from(acts))[1].id if repeated else 1000 + offset
        acts.append((user, Act(at_ms, act_id, offset)))
    return acts


async def slide(
    store: WindowStore, batch: History, done: list[int], source: Source = EVENTS
) -> list[int | list[Act]]:
    users = [user for user, _ in batch]
    return answers_of(
        POLICY, await store.slide(source, users, rows_of([act for _, act in batch], source), done)
    )


def acts(first: int, count: int) -> History:
    return [(b"a", Act(1000 + n, n, n)) for n in range(first, first + count)]
