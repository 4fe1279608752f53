"""What an event is told of its item's visitors: the naive answer, whatever the groups were."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.core.context import (
    NEW,
    NONE,
    NOTHING_ASKED,
    Asked,
    ContextPlan,
    SiteBook,
    numbers_of,
)
from stream_app.core.crowd import BUCKET_MS, KEPT, USER_BITS
from stream_app.core.window import HEAD, Rows
from tests.core.crowd_oracle import Visit, told

BOUGHT = 3  # an event type's number
PLAN = ContextPlan(
    ("item",),
    (BOUGHT,),
    (
        Asked("latest", 0, "since", 1),
        Asked("third", 0, "since", 3),
        Asked("users", 0, "users"),
        Asked("new", 0, "share", NEW),
        Asked("bought", 0, "share", NEW + 1),
        Asked("user", 0, "user", 1),
    ),
)
ROW = np.dtype(
    [
        *HEAD,
        ("item", "<u4"),
        *((name, "u1") for name in ("latest", "third", "users", "new", "bought")),
        ("user", "<u2"),
        ("type", "u1"),
    ]
)
FIELDS = [asked.field for asked in PLAN.asked]

Acts = list[tuple[int, int, int, bool]]  # user, item (0: none), seconds, bought
acts = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 2), st.integers(0, 200), st.booleans()),
    max_size=60,
)


def rows_of(done: Acts) -> tuple[list[bytes], Rows]:
    rows = np.zeros(len(done), ROW)
    for row, (_, item, second, bought) in zip(rows, done, strict=True):
        row["at_ms"] = 10**12 + 1000 * second
        row["item"] = item
        row["type"] = BOUGHT if bought else 1
    return [f"u{user}".encode() for user, *_ in done], rows


def filled(done: Acts, cuts: list[int], book: SiteBook | None = None) -> list[list[int]]:
    """The fields of each event, after they came in groups."""
    users, rows = rows_of(done)
    book = book or SiteBook(PLAN)
    edges = [0, *sorted(cut for cut in cuts if cut < len(done)), len(done)]
    for begin, end in itertools.pairwise(edges):
        book.fill(0, users[begin:end], rows[begin:end])
    return [[int(row[field]) for field in FIELDS] for row in rows]


def in_time(done: Acts) -> Acts:
    return sorted(done, key=lambda act: act[2])


@given(acts, st.lists(st.integers(0, 60), max_size=6))
def test_groups_change_nothing(done: Acts, cuts: list[int]) -> None:
    assert filled(in_time(done), cuts) == filled(in_time(done), [])


@given(acts, st.integers(0, 60))
def test_later_events_change_nothing(done: Acts, count: int) -> None:
    done = in_time(done)
    assert filled(done, [])[:count] == filled(done[:count], [])


@given(acts)
@settings(max_examples=50)
def test_what_comes_again_is_told_the_same_of_closed_buckets_and_changes_nothing(
    done: Acts,
) -> None:
    done = in_time(done)
    book = SiteBook(PLAN)
    filled(done, [], book)
    filled(done, [], book)
    more: Acts = [(99, 1, 300, False), (98, 2, 300, True)]
    assert filled(more, [], book) == filled([*done, *more], [])[-2:]


@given(acts)
def test_it_tells_what_a_plain_loop_over_all_visits_tells(done: Acts) -> None:
    done = in_time(done)
    users, rows = rows_of(done)
    mask = (1 << USER_BITS) - 1
    numbers = [number & mask for number in numbers_of(users).tolist()]
    visits: dict[int, list[Visit]] = {}
    for (_, item, *_), number, row, found in zip(
        done, numbers, rows, filled(done, []), strict=True
    ):
        bucket = int(row["at_ms"]) // BUCKET_MS
        known = visits.setdefault(item, [])
        ages, count = told(known, bucket, number)
        if not item:
            assert found == [0] * len(FIELDS)  # not ours: the encoder has said that it is missing
            continue
        codes = [round(20 * float(np.log1p(age * BUCKET_MS / 1000))) for age in ages]
        assert found[0] == (codes[0] if codes else NONE)
        assert found[1] == (codes[2] if len(codes) > 2 else NONE)
        assert found[2] == count <= KEPT
        assert found[3] == (100 if count else NONE)  # all accounts are new here
        known.append(Visit(bucket, number, 0))


def test_a_full_crowd_is_the_newest_visitors() -> None:
    done: Acts = [(user, 1, 20 * user, False) for user in range(2 * KEPT)]
    done.append((99, 1, 20 * 2 * KEPT, False))
    assert filled(done, [])[-1][2] == KEPT


def test_shares_are_of_the_users_that_count() -> None:
    done: Acts = [(1, 1, 0, True), (2, 1, 20, False), (3, 1, 40, False), (4, 1, 60, True)]
    assert filled(done, [])[-1][4] == 33


@pytest.mark.parametrize("seconds", [5, 9])
def test_events_of_one_bucket_do_not_see_each_other(seconds: int) -> None:
    assert filled([(1, 1, 0, False), (2, 1, seconds, False)], [])[1][2] == 0


def test_an_empty_plan_touches_nothing() -> None:
    users, rows = rows_of([(1, 1, 0, False), (2, 1, 90, False)])
    before = rows.copy()
    SiteBook(NOTHING_ASKED).fill(0, users, rows)
    assert (rows == before).all()
