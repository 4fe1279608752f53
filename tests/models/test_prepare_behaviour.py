"""What is looked at user by user, against the naive way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from models.prepare.behaviour import Pace, look
from models.prepare.checks import BIT, actions

PACE = Pace(burst=3, regular=4, min_events=3)
EVENTS = st.lists(
    st.tuples(
        st.integers(1, 3),  # user
        st.one_of(st.integers(0, 8000), st.integers(0, 12).map(lambda n: n * 1000)),  # ms
        st.sampled_from([None, 1, 2]),  # id
        st.integers(0, 3),  # content
    ),
    max_size=30,
)


def frame(events: Sequence[tuple[int, int, int | None, int]]) -> pl.DataFrame:
    rows = [(n, user, f"u{user}", at, id_, c) for n, (user, at, id_, c) in enumerate(events)]
    names = ["n", "user", "user_id", "event_time", "id", "content"]
    kinds = [pl.UInt64, pl.UInt64, pl.String, pl.Int64, pl.UInt64, pl.UInt64]
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")


def naive(events: Sequence[tuple[int, int, int | None, int]], dropping: set[str]) -> dict[int, int]:
    """Check by check, each on what the ones before left."""
    hits = dict.fromkeys(range(len(events)), 0)
    left = list(range(len(events)))

    def marked(name: str, found: set[int]) -> None:
        for n in found:
            hits[n] |= BIT[name]
        if name in dropping:
            left[:] = [n for n in left if n not in found]

    def again(keys: dict[int, object]) -> set[int]:
        return {n for n, key in keys.items() if any(keys.get(m) == key for m in range(n))}

    marked("repeated-id", again({n: events[n][::2] for n in left if events[n][2]}))
    marked("repeated-row", again({n: (events[n][0], events[n][3]) for n in left}))
    second = {n: (events[n][0], events[n][1] // 1000) for n in left}
    marked("same-second", {n for n in left if list(second.values()).count(second[n]) >= 3})
    timed: set[int] = set()
    for user in {events[n][0] for n in left}:
        own = sorted((n for n in left if events[n][0] == user), key=lambda n: (events[n][1], n))
        pauses = [events[b][1] - events[a][1] for a, b in itertools.pairwise(own)]
        for first in range(len(pauses)):
            last = first
            while last + 1 < len(pauses) and _equal(pauses[last], pauses[last + 1]):
                last += 1
            if last - first + 1 >= PACE.regular:
                timed |= set(own[first : last + 2])
    marked("regular-pace", timed)
    users = [events[n][0] for n in left]
    marked("few-events", {n for n in left if users.count(events[n][0]) < 3})
    return hits


def _equal(pause: int, then: int) -> bool:
    return then > 0 and abs(then - pause) < max(2, then * 0.01)


@given(EVENTS, st.sets(st.sampled_from(["repeated-id", "repeated-row", "same-second"])))
def test_columns_find_what_the_naive_way_finds(
    events: Sequence[tuple[int, int, int | None, int]], drop: set[str]
) -> None:
    chosen = actions(drop, {"repeated-id"} - drop)
    found = look(frame(events), PACE, chosen)
    got = dict(zip(found.n.tolist(), found.hits.tolist(), strict=True))
    assert got == naive(events, drop)
    of = {n: found.user_ids[at] for n, at in zip(found.n.tolist(), found.of_row, strict=True)}
    assert of == {n: f"u{event[0]}" for n, event in enumerate(events)}
    kept = [e for n, e in enumerate(events) if not got[n] & chosen.mask]
    assert sorted(found.kept_ms.tolist()) == sorted(event[1] for event in kept)
    assert found.pauses["count"].sum() == len(kept) - len({event[0] for event in kept})


@given(st.integers(5, 30), st.integers(1, 3_600_000))
def test_a_timer_is_found_whatever_its_pace(many: int, pause_ms: int) -> None:
    events = [(1, n * pause_ms, None, n) for n in range(many)]
    found = look(frame(events), PACE, actions((), ()))
    assert all(hits & BIT["regular-pace"] for hits in found.hits.tolist())
