"""Windows against the naive answer, over random histories, cuts into batches, and redelivery."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.core.logbook import LogBook
from stream_app.core.window import (
    DUPLICATE,
    HEAD,
    LATE,
    WindowPolicy,
    seq_of,
    source_tag,
)
from tests.core.oracle import Act, answers_of, judge

ROW = np.dtype([*HEAD, ("type", "u1"), ("pad", "V7")])
POLICY = WindowPolicy(size=4, slack=3, span_ms=900, lateness_ms=60)
TAG = source_tag("events")


def rows_of(acts: list[Act], tag: int = TAG) -> np.ndarray:
    rows = np.zeros(len(acts), ROW)
    for at, act in enumerate(acts):
        rows[at]["at_ms"], rows[at]["id"] = act.at_ms, act.id
        rows[at]["seq"] = seq_of(tag, act.offset + 1)
    return rows


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[bytes, Act]]:
    """Users interleaved; times mostly rising, ties, small and large steps back, repeated ids."""
    acts: list[tuple[bytes, Act]] = []
    now = 10_000
    for offset in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, 0, 7, 30, 200]))
        at_ms = now - draw(st.sampled_from([0, 0, 0, 0, 20, 61, 120, 1500]))
        user = draw(st.sampled_from([b"a", b"a", b"b"]))
        repeated = acts and draw(st.integers(0, 9)) == 0
        act_id = draw(st.sampled_from(acts))[1].id if repeated else 1000 + offset
        acts.append((user, Act(at_ms, act_id, offset)))
    return acts


@settings(max_examples=300, deadline=None)
@given(histories(), st.data())
def test_windows_equal_the_naive_ones_however_batches_fall(
    history: list[tuple[bytes, Act]], data: st.DataObject
) -> None:
    expected: dict[int, int | list[Act]] = {}
    for user in (b"a", b"b"):
        own = [act for u, act in history if u == user]
        expected.update(zip((a.offset for a in own), judge(own, POLICY), strict=True))

    book = LogBook(ROW, POLICY)
    done = committed = 0
    while committed < len(history):
        end = min(len(history), done + data.draw(st.integers(1, 20)))
        batch = history[done:end]
        logs = book.slide(
            [u for u, _ in batch], rows_of([a for _, a in batch]), [seq_of(TAG, committed)]
        )
        for (_, act), answer in zip(batch, answers_of(POLICY, logs), strict=True):
            assert answer == expected[act.offset]
        done = end
        what = data.draw(st.sampled_from(["commit", "commit", "go on", "deliver again"]))
        if what == "commit" or done == len(history):
            committed = done
        elif what == "deliver again":
            done = committed


def test_a_repeated_id_is_a_duplicate_even_with_other_content() -> None:
    history = [Act(1000, 7, 0), Act(1010, 8, 1), Act(1020, 7, 2)]
    logs = LogBook(ROW, POLICY).slide([b"a"] * 3, rows_of(history), [])
    assert logs.place.tolist() == [0, 1, DUPLICATE]


def test_an_event_later_than_the_limit_is_late_and_changes_no_window() -> None:
    #  t 1000 ......... 1100 | 1039 late (61 before 1100)   1041 in time
    history = [Act(1000, 1, 0), Act(1100, 2, 1), Act(1039, 3, 2), Act(1041, 4, 3)]
    logs = LogBook(ROW, POLICY).slide([b"a"] * 4, rows_of(history), [])
    assert logs.place.tolist() == [0, 1, LATE, 2]
    assert answers_of(POLICY, logs)[3] == [history[0], history[3]]


def test_two_topics_share_a_log_and_keep_their_own_offsets() -> None:
    book = LogBook(ROW, POLICY)
    other = source_tag("more-events")
    first = [Act(1000 + n, n, n) for n in range(5)]
    second = [Act(1010 + n, 100 + n, n) for n in range(5)]
    none_committed = [seq_of(TAG, 0), seq_of(other, 0)]
    book.slide([b"a"] * 5, rows_of(first), none_committed)
    before = answers_of(POLICY, book.slide([b"a"] * 5, rows_of(second, other), none_committed))
    assert before[4] == [*second[1:5]]
    again = answers_of(POLICY, book.slide([b"a"] * 5, rows_of(second, other), none_committed))
    assert again == before


@pytest.mark.parametrize("pending", [True, False])
def test_rows_that_may_come_again_are_kept_whatever_other_topics_commit(pending: bool) -> None:
    book = LogBook(ROW, POLICY)
    other = source_tag("more-events")
    waiting = [Act(1000, 1, 0)]
    book.slide([b"a"], rows_of(waiting, other), [])
    for n in range(20):
        sources = [seq_of(TAG, n), seq_of(other, 0 if pending else 1)]
        book.slide([b"a"], rows_of([Act(1001 + n, 50 + n, n)]), sources)
    place = book.slide([b"a"], rows_of(waiting, other), sources).place.tolist()
    assert place == ([0] if pending else [DUPLICATE])
