"""When anomalous events at one thing become a campaign, what is told of it, and when it is over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.campaign import (
    CampaignBook,
    CampaignPolicy,
    News,
    Sighting,
    Thing,
    is_told,
)
from stream_app.core.coordination import Member, evidence_of

MIN = 60_000
NOW = 1_700_000_000_000
ITEM, QUERY = Thing("item", "i9"), Thing("query", "rain jacket")
POLICY = CampaignPolicy()


def member(user: str, event: int = 0, **more: object) -> Member:
    """One of a gang: the same rhythm, the same other item, a young account."""
    told: dict[str, object] = {"gap": 1.0, "items": (7, 9), "new": True, "own": 9, "score": 0.9}
    told |= more
    return Member(user_id=user, event_id=f"e{event}", **told)  # type: ignore[arg-type]


def sighting(
    number: int, at_min: float, user: str | None = None, *things: Thing, **more: object
) -> Sighting:
    who = member(user or f"u{number}", number, **more)
    return Sighting(number, NOW + round(at_min * MIN), things or (ITEM,), who)


def told(news: list[list[News]]) -> list[tuple[int, int, bool]]:
    """Of each: events, users, and whether it is over."""
    return [(one.events, len(one.members), one.closed) for some in news for one in some]


def test_the_third_user_of_a_gang_makes_a_campaign_and_more_events_update_it() -> None:
    #  min 0   1   2   3   4   5   6   7   8    events 3 to 8 tell, then every second one
    #      u0  u1  u2  u3  u0  u1  u2  u3  u0
    found = CampaignBook(POLICY).follow([sighting(n, n, f"u{n % 4}") for n in range(10)])
    assert told(found) == [(n, min(n, 4), False) for n in (3, 4, 5, 6, 7, 8, 10)]
    first = found[2][0]
    assert (first.thing, first.first_ms, first.last_ms) == (ITEM, NOW, NOW + 2 * MIN)
    assert [(m.user_id, m.events, m.first_event_id) for m in found[9][0].members] == [
        ("u0", 3, "e0"),
        ("u1", 3, "e1"),
        ("u2", 2, "e2"),
        ("u3", 2, "e3"),
    ]
    assert len({one.id for some in found for one in some}) == 1


def test_one_user_or_two_are_no_campaign() -> None:
    assert told(CampaignBook(POLICY).follow([sighting(n, n, f"u{n % 2}") for n in range(9)])) == []


def test_many_who_are_not_alike_are_no_campaign() -> None:
    crowd = [
        sighting(n, n / 10, None, ITEM, gap=n / 2, items=(9, 100 + n), score=0.6) for n in range(40)
    ]
    assert told(CampaignBook(POLICY).follow(crowd)) == []


def test_what_lies_apart_in_time_is_another_campaign() -> None:
    #  min  0 1 2 ... 40 41 42     quiet after 30
    found = CampaignBook(POLICY).follow(
        [sighting(n, at) for n, at in enumerate((0, 1, 2, 40, 41, 42))]
    )
    first, second = (one.id for some in found for one in some if not one.closed)
    assert first != second


def test_an_event_that_came_late_joins_the_run_that_it_is_near() -> None:
    #  min  0 1 ... 40 41 | 2     the last to come belongs to the first two
    found = CampaignBook(POLICY).follow([sighting(n, at) for n, at in enumerate((0, 1, 40, 41, 2))])
    assert [(m.user_id) for m in found[4][0].members] == ["u0", "u1", "u4"]


def test_a_run_does_not_go_on_for_ever() -> None:
    day = [sighting(n, 20 * n, f"u{n % 5}") for n in range(3 * 24 * 3)]
    found = CampaignBook(POLICY).follow(day)
    assert len({one.id for some in found for one in some}) == 3


def test_a_quiet_campaign_is_closed_by_the_next_anomalous_event_of_the_site() -> None:
    book, other = CampaignBook(POLICY), Thing("item", "elsewhere")
    told_last = book.follow([sighting(n, n, f"u{n % 4}") for n in range(8)])[7][0]
    book.follow([sighting(8, 9), sighting(9, 38, "u9", other)])  # the ninth event tells nothing
    (over,) = book.follow([sighting(10, 40, "u10", other)])[0]
    assert (over.id, over.closed, over.events) == (told_last.id, True, 8)
    assert over.last_ms == NOW + 9 * MIN
    assert book.follow([sighting(11, 99, "u11", other)]) == [[]]


def test_an_item_and_its_query_tell_once() -> None:
    found = CampaignBook(POLICY).follow([sighting(n, n, None, QUERY, ITEM) for n in range(4)])
    assert [one.thing for some in found for one in some] == [QUERY, QUERY]
    more = CampaignBook(POLICY).follow(
        [sighting(n, n, None, *((QUERY, ITEM) if n else (ITEM,))) for n in range(4)]
    )
    assert [one.thing for some in more for one in some] == [ITEM, ITEM]


sightings = st.lists(
    st.tuples(
        st.integers(0, 25), st.floats(0, 200), st.sampled_from([(ITEM,), (QUERY,), (ITEM, QUERY)])
    ),
    max_size=40,
)


@given(sightings, st.lists(st.integers(0, 40), max_size=5))
def test_what_comes_again_tells_the_same_and_groups_do_not_matter(
    made: list[tuple[int, float, tuple[Thing, ...]]], cuts: list[int]
) -> None:
    came = [sighting(n, at, f"u{user}", *things) for n, (user, at, things) in enumerate(made)]
    whole = [[n for n in some if not n.closed] for some in CampaignBook(POLICY).follow(came)]
    book, found = CampaignBook(POLICY), list[list[News]]()
    edges = [0, *sorted(cut for cut in cuts if cut < len(came)), len(came)]
    for begin, end in pairwise(edges):
        first = book.follow(came[begin:end])
        again = book.follow(came[begin:end])
        opened = [[n for n in some if not n.closed] for some in first]
        assert [[n for n in some if not n.closed] for some in again] == opened
        found += opened
    assert found == whole


def test_updates_come_four_to_a_doubling() -> None:
    assert [n for n in range(50) if is_told(n)] == [
        *(3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)
    ]


@pytest.mark.parametrize(
    ("more", "rhythm", "paths", "new"),
    [
        ([{}, {}, {}], 1.0, 1.0, 1.0),
        ([{"gap": 1.0}, {"gap": 3.0}, {"gap": None}], 0.0, 1.0, 1.0),
        ([{"items": (9, 1)}, {"items": (9, 2)}, {"items": (9, 2)}], 1.0, 0.3333, 1.0),
        ([{"items": (9,)}, {"items": (9,)}, {"items": (9, 2)}], 1.0, 0.3333, 1.0),
        ([{"new": None}, {"new": None}, {"new": None}], 1.0, 1.0, None),
        ([{"new": False}, {"new": True}, {"new": False}], 1.0, 1.0, 0.3333),
    ],
)
def test_users_are_alike_in_pairs(
    more: list[dict[str, object]], rhythm: float, paths: float, new: float | None
) -> None:
    found = evidence_of([member(f"u{n}", n, **m) for n, m in enumerate(more)], of_item=True)
    assert (found.same_rhythm, found.same_paths, found.new_accounts) == (rhythm, paths, new)


def test_of_a_user_the_newest_event_counts() -> None:
    some = [member("a", gap=9.0), member("b"), member("a", gap=1.0)]
    assert evidence_of(some, of_item=True).same_rhythm == 1.0


def test_items_are_a_path_where_a_query_is_shared() -> None:
    some = [member("a", items=(9,)), member("b", items=(9, 3))]
    assert evidence_of(some, of_item=False).same_paths == 1.0
    assert evidence_of(some, of_item=True).same_paths == 0.0
