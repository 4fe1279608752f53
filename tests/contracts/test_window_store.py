"""What every WindowStore promises, in memory and in Redis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from stream_app.core.errors import Misconfigured
from stream_app.core.event import MAX_TIME_MS
from stream_app.core.ports import WindowStore
from stream_app.core.record import Source
from stream_app.core.window import (
    DUPLICATE,
    LATE,
    as_of,
)
from stream_app.edges.memory import MemoryWindows
from stream_app.edges.redis_windows import RedisWindows
from tests.contracts.window_logs import (
    EVENTS,
    MORE,
    POLICY,
    RANDOM,
    ROW,
    Fresh,
    History,
    acts,
    committed,
    histories,
    rows_of,
    slide,
)
from tests.core.oracle import Act, judge


@RANDOM
@given(histories(), st.data())
async def test_windows_equal_the_naive_ones_however_batches_fall_and_fall_again(
    fresh_windows: Fresh, history: History, data: st.DataObject
) -> None:
    expected: dict[int, int | list[Act]] = {}
    for name in (b"a", b"b", b"c"):
        own = [act for user, act in history if user == name]
        expected.update(zip((act.offset for act in own), judge(own, POLICY), strict=True))

    store = fresh_windows()
    done = acked = 0
    while acked < len(history):
        end = min(len(history), done + data.draw(st.integers(1, 20)))
        batch = history[done:end]
        answer = await slide(store, batch, [committed(EVENTS, acked)])
        assert answer == [expected[act.offset] for _, act in batch]
        done = end
        what = data.draw(st.sampled_from(["commit", "commit", "go on", "again", "zombie"]))
        if what == "commit" or done == len(history):
            acked = done
        elif what == "again":
            done = acked
        elif what == "zombie":  # it read on from an older commit, and has not heard of ours
            begin = data.draw(st.integers(0, acked))
            batch = history[begin : data.draw(st.integers(begin + 1, done))]
            await slide(store, batch, [committed(EVENTS, begin)])


@pytest.mark.redis
@RANDOM
@given(st.data())
async def test_redis_answers_as_memory_does_with_two_topics_and_lost_scripts(
    memory_windows: Fresh, redis_windows: Fresh, client: Redis, data: st.DataObject
) -> None:
    """But that it may still have rows that memory forgot: then it answers as at first."""
    first: dict[tuple[Source, int], int | list[Act]] = {}
    histories_of = {EVENTS: data.draw(histories(40)), MORE: data.draw(histories(40))}
    ahead = dict.fromkeys(histories_of, 0)
    acked = dict.fromkeys(histories_of, 0)
    stores = memory_windows(), redis_windows()
    for _ in range(data.draw(st.integers(1, 12))):
        source = data.draw(st.sampled_from([EVENTS, MORE]))
        history = histories_of[source]
        begin = data.draw(st.integers(acked[source], ahead[source]))
        batch = history[begin : begin + data.draw(st.integers(0, 12))]
        sources = data.draw(st.sampled_from([[], [EVENTS], [EVENTS, MORE], [MORE, EVENTS]]))
        done = [committed(s, acked[s]) for s in sources]
        if data.draw(st.integers(0, 9)) == 0:
            client.script_flush()
        expected = await slide(stores[0], batch, done, source)
        answer = await slide(stores[1], batch, done, source)
        for (_, act), there, found in zip(batch, expected, answer, strict=True):
            assert found in (there, first.get((source, act.offset), there))
            first.setdefault((source, act.offset), found)
        ahead[source] = max(ahead[source], begin + len(batch))
        if data.draw(st.booleans()):
            acked[source] = data.draw(st.integers(acked[source], ahead[source]))


async def test_a_thousand_events_of_one_user_in_one_batch(fresh_windows: Fresh) -> None:
    late = {n for n in range(1000) if n % 50 == 7}
    history = [Act(10_000 + 10 * n - 45 * (n in late), n, n) for n in range(1000)]
    batch = [(b"a", act) for act in history]
    store = fresh_windows()
    first = await slide(store, batch, [committed(EVENTS, 0)])
    assert first == judge(history, POLICY)
    assert await slide(store, batch[500:], [committed(EVENTS, 0)]) == first[500:]
    assert await slide(store, batch[990:], [committed(EVENTS, 990)]) == first[990:]


async def test_one_user_may_have_more_than_65536_rows_that_may_come_again(
    redis_windows: Fresh,
) -> None:
    store = redis_windows()
    for begin in range(0, 80_000, 20_000):
        batch = [(b"a", Act(10_000 + n, n, n)) for n in range(begin, begin + 20_000)]
        users = [user for user, _ in batch]
        rows = rows_of([act for _, act in batch])
        logs = await store.slide(EVENTS, users, rows, [committed(EVENTS, 0)])
        assert (logs.rows[logs.place]["id"] == range(begin, begin + 20_000)).all()
    assert len(logs.rows) >= 80_000


async def test_a_thousand_copies_of_one_event_are_one_event(fresh_windows: Fresh) -> None:
    batch = [(b"a", Act(10_000, 7, n)) for n in range(1000)]
    assert await slide(fresh_windows(), batch, []) == [[batch[0][1]], *[DUPLICATE] * 999]


async def test_windows_do_not_depend_on_the_size_of_batches(fresh_windows: Fresh) -> None:
    rng = np.random.default_rng(1)
    history = [
        (b"user-%d" % rng.integers(20), Act(10_000 + 5 * n - int(rng.choice([0, 0, 0, 30])), n, n))
        for n in range(300)
    ]
    seen = []
    for size in (7, 64, 300):
        store = fresh_windows()
        found: list[int | list[Act]] = []
        for begin in range(0, len(history), size):
            done = [committed(EVENTS, max(0, begin - size))]
            found += await slide(store, history[begin : begin + size], done)
        seen.append(found)
    assert seen[0] == seen[1] == seen[2]


async def test_why_an_event_was_left_out_is_told_again(fresh_windows: Fresh) -> None:
    #  t 1000 ......... 1100 | 1039 late (61 before 1100)   the first id again
    history = [Act(1000, 1, 0), Act(1100, 2, 1), Act(1039, 3, 2), Act(1100, 1, 3), Act(1200, 4, 4)]
    batch = [(b"a", act) for act in history]
    store = fresh_windows()
    first = await slide(store, batch, [])
    assert first[2:4] == [LATE, DUPLICATE]
    assert await slide(store, batch[2:], []) == first[2:]


async def test_the_first_and_the_last_time_that_an_event_may_have_are_kept(
    fresh_windows: Fresh,
) -> None:
    for size in (1, 4):
        store = fresh_windows()
        times = [0, MAX_TIME_MS - 1, MAX_TIME_MS, MAX_TIME_MS]
        batch = [(b"a", Act(at_ms, n, n)) for n, at_ms in enumerate(times)]
        found: list[int | list[Act]] = []
        for begin in range(0, 4, size):
            found += await slide(store, batch[begin : begin + size], [committed(EVENTS, begin)])
        assert found == judge([act for _, act in batch], POLICY)


async def test_no_events_are_no_error(fresh_windows: Fresh) -> None:
    logs = await fresh_windows().slide(EVENTS, [], rows_of([]), [])
    accepted, windows = as_of(logs, POLICY)
    assert len(accepted) == len(windows) == 0


@pytest.mark.parametrize("pending", [True, False])
async def test_rows_that_may_come_again_are_kept_whatever_other_topics_commit(
    fresh_windows: Fresh, pending: bool
) -> None:
    store = fresh_windows()
    waiting = [(b"a", Act(1000, 1, 0))]
    await slide(store, waiting, [], MORE)
    for n in range(0, 40, 2):
        done = [committed(EVENTS, n), committed(MORE, 0 if pending else 1)]
        await slide(store, [(b"a", Act(1100 + k, 50 + k, k)) for k in (n, n + 1)], done)
    again = await slide(store, waiting, done, MORE)
    assert again == [[waiting[0][1]] if pending else DUPLICATE]


async def test_a_zombie_does_not_bring_back_what_was_forgotten_under_newer_commits(
    fresh_windows: Fresh,
) -> None:
    """Of its topic no row is left in the user's log: its old one would look new."""
    store = fresh_windows()
    old, then = [(b"a", Act(1100, 1, 0))], [committed(EVENTS, 0), committed(MORE, 0)]
    await slide(store, old, then, MORE)
    for n in range(0, 40, 2):
        done = [committed(EVENTS, n), committed(MORE, 1)]
        await slide(store, [(b"a", Act(1100 + k, 50 + k, k)) for k in (n, n + 1)], done)
    assert await slide(store, old, then, MORE) == [DUPLICATE]
    (window,) = await slide(store, [(b"a", Act(1140, 99, 40))], done)
    assert isinstance(window, list)
    assert [act.id for act in window] == [87, 88, 89, 99]


async def test_what_is_committed_and_not_stored_is_not_accepted_again(fresh_windows: Fresh) -> None:
    store = fresh_windows()
    await slide(store, [(b"a", Act(1000, 1, 0))], [])
    batch = [(b"a", Act(1001, 2, 3)), (b"b", Act(1001, 3, 4)), (b"a", Act(1002, 4, 5))]
    answer = await slide(store, batch, [committed(EVENTS, 5)])
    assert answer == [DUPLICATE, DUPLICATE, [Act(1000, 1, 0), Act(1002, 4, 5)]]


async def test_a_topic_whose_offsets_started_over_is_refused(fresh_windows: Fresh) -> None:
    windows = fresh_windows()
    await windows.slide(EVENTS, [b"a"] * 3, rows_of([Act(1000 + n, n, n) for n in range(3)]), [])
    with pytest.raises(Misconfigured, match="made anew"):
        await windows.slide(EVENTS, [b"a"], rows_of([Act(5000, 77, 1)]), [])


async def test_what_was_lost_and_comes_again_is_no_duplicate(fresh_windows: Fresh) -> None:
    """Two groups are on their way, all is lost between them, and both come again."""
    store, done = fresh_windows(), [committed(EVENTS, 10)]
    await slide(store, acts(0, 10), [committed(EVENTS, 0)])
    await slide(store, acts(10, 2), done)
    store = _without_memory(store)
    await slide(store, acts(12, 2), done)
    assert await slide(store, acts(10, 4), done) == [
        [a for _, a in acts(10, n)] for n in range(1, 5)
    ]
    again = await slide(store, acts(14, 1), done)
    assert again == [[a for _, a in acts(11, 4)]]


async def test_what_was_lost_of_two_topics_stands_where_it_stood(fresh_windows: Fresh) -> None:
    store, done = fresh_windows(), [committed(EVENTS, 0), committed(MORE, 0)]
    await slide(store, acts(0, 2), done)
    store = _without_memory(store)
    other = [(b"a", Act(1010 + n, 100 + n, n)) for n in range(2)]
    await slide(store, acts(2, 1), done)
    await slide(store, other, done, MORE)
    answer = await slide(store, acts(0, 3), done)
    assert answer == [[a for _, a in acts(0, n)] for n in range(1, 4)]


async def test_what_a_zombie_brings_was_not_lost(fresh_windows: Fresh) -> None:
    """Its old row was forgotten under newer commits than it knows of."""
    store = fresh_windows()
    await slide(store, acts(0, 1), [committed(EVENTS, 0)])
    for n in range(1, 41, 2):
        await slide(store, acts(n, 2), [committed(EVENTS, n)])
    assert await slide(store, acts(0, 1), [committed(EVENTS, 0)]) == [DUPLICATE]


@RANDOM
@given(histories(30), st.data())
async def test_whatever_is_lost_whenever_every_event_that_is_not_repeated_is_accepted(
    fresh_windows: Fresh, history: History, data: st.DataObject
) -> None:
    """Those that are neither late nor repeated by the whole history."""
    kept = {act.offset for _, act in history}
    seen: dict[tuple[bytes, int], int] = {}
    for user, act in history:
        if seen.setdefault((user, act.id), act.offset) != act.offset:
            kept.discard(act.offset)
        newest = max(a.at_ms for u, a in history if u == user and a.offset <= act.offset)
        if newest > act.at_ms + POLICY.lateness_ms:
            kept.discard(act.offset)
    store, done, settled = fresh_windows(), 0, 0
    while settled < len(history):
        end = min(len(history), done + data.draw(st.integers(1, 6)))
        answer = await slide(store, history[done:end], [committed(EVENTS, settled)])
        for (_, act), found in zip(history[done:end], answer, strict=True):
            assert act.offset not in kept or isinstance(found, list), act
        done = end
        what = data.draw(st.sampled_from(["commit", "go on", "deliver again", "lose"]))
        if what == "commit" or done == len(history):
            settled = done
        elif what == "deliver again":
            done = settled
        elif what == "lose":
            store = _without_memory(store)


def _without_memory(store: WindowStore) -> WindowStore:
    """The same store, after it lost all."""
    if isinstance(store, MemoryWindows):
        return MemoryWindows(ROW, POLICY)
    assert isinstance(store, RedisWindows)
    store._prefix += "'"
    return store
