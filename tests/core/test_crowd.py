"""A crowd is a function of the set of its visits, and tells what a naive answer tells."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core import crowd
from stream_app.core.crowd import CAPACITY, KEPT, Crowds
from tests.core.crowd_oracle import Visit, crowd_before

some_visits = st.lists(
    st.builds(
        Visit,
        st.integers(1, 6),
        st.integers(0, 3 * KEPT),
        st.sampled_from([0, 1, 2, 4]),
    ),
    max_size=80,
)


def coded(visits: list[Visit]) -> Crowds:
    columns = np.array(visits, np.int64).reshape(-1, 3)
    bucket, user = columns[:, 0].astype(np.uint64), columns[:, 1].astype(np.uint64)
    return crowd.visits(bucket, user, columns[:, 2])


def grown(visits: list[Visit], cuts: list[int]) -> Crowds:
    """The crowd of one thing after its visits came in groups."""
    found = np.zeros((1, CAPACITY), np.uint64)
    edges = [0, *sorted(cut for cut in cuts if cut < len(visits)), len(visits)]
    for begin, end in itertools.pairwise(edges):
        if end > begin:
            found = crowd.join(found, coded(visits[begin:end])[None, :])
    return found


def seen(crowds: Crowds, bucket: int) -> list[Visit]:
    found = crowd.before(crowds, np.array([bucket], np.uint64))[0]
    mask = (1 << crowd.USER_BITS) - 1
    codes = [int(code) for code in found if code]
    return [Visit(code >> 32, code >> 8 & mask, code & 0xFF) for code in codes]


@given(some_visits, st.lists(st.integers(0, 80), max_size=5), st.integers(1, 8))
def test_in_order_of_time_it_tells_what_all_visits_would(
    visits: list[Visit], cuts: list[int], later: int
) -> None:
    visits = sorted(visits)
    last = max((v.bucket for v in visits), default=0)
    found = grown(visits, cuts)
    assert seen(found, last + later) == crowd_before(visits, last + later)
    assert seen(found, max(last, 1)) == crowd_before(visits, max(last, 1))


@given(some_visits, st.lists(st.integers(0, 80), max_size=5), st.randoms(use_true_random=False))
def test_neither_order_nor_groups_nor_repetitions_count(
    visits: list[Visit], cuts: list[int], chance: Random
) -> None:
    again = visits + visits[::2] + visits[::3]
    chance.shuffle(again)
    assert (grown(again, cuts) == grown(sorted(visits), [])).all()


@given(some_visits)
def test_joining_what_is_there_changes_nothing(visits: list[Visit]) -> None:
    whole = grown(sorted(visits), [])
    assert (crowd.join(whole, whole) == whole).all()
    assert (np.sort(whole, 1) == whole).all()


def test_a_full_bucket_keeps_the_largest_users() -> None:
    found = grown([Visit(3, user, 0) for user in range(2 * KEPT)], [])
    assert [v.user for v in seen(found, 4)] == list(range(KEPT, 2 * KEPT))


def test_times_beyond_any_clock_have_a_bucket_too() -> None:
    times = np.array([-1, 0, 9_999, 10_000, 2**62], np.int64)
    assert crowd.buckets(times).tolist() == [1, 1, 1, 1, 2**32 - 1]
