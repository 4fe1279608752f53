"""What every ContextStore promises, in memory and in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from stream_app.core.ports import ContextStore, WindowStore
from stream_app.core.record import Source
from stream_app.core.window import WindowPolicy, as_of, seq_of, source_tag
from stream_app.edges.memory import MemoryContext, MemoryWindows
from stream_app.edges.redis_context import RedisContext
from stream_app.edges.redis_windows import RedisWindows
from tests.core.test_context import FIELDS, PLAN, ROW, Acts, in_time, rows_of

prefixes = count()
acts = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 200), st.booleans()),
    max_size=120,
)

Fresh = Callable[[], ContextStore]  # another store, which saw nobody


@pytest.fixture(scope="module")
def memory_context() -> Fresh:
    return lambda: MemoryContext(PLAN)


@pytest.fixture(scope="module")
def redis_context(client: Redis) -> Iterator[Fresh]:
    with ThreadPoolExecutor(2) as pool:
        yield lambda: RedisContext(client, f"t{next(prefixes)}", PLAN, executor=pool)


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    made: Fresh = request.getfixturevalue(f"{request.param}_context")
    return made


async def filled(store: ContextStore, done: Acts, cuts: list[int], times: int) -> list[list[int]]:
    """The fields of each event; each group came `times`, and then is joined so often."""
    users, rows = rows_of(done)
    edges = [0, *sorted(cut for cut in cuts if cut < len(done)), len(done)]
    for begin, end in pairwise(edges):
        told = await store.fill(0, users[begin:end], rows[begin:end])
        for _ in range(times - 1):
            again = rows[begin:end].copy()
            told = await store.fill(0, users[begin:end], again)
            assert again.tobytes() == rows[begin:end].tobytes()
        for _ in range(times):
            await told.join()
    return [[int(row[field]) for field in FIELDS] for row in rows]


async def test_a_call_may_hold_nothing(fresh: Fresh) -> None:
    assert await filled(fresh(), [], [], 1) == []


async def test_an_event_sees_the_visitors_of_buckets_before_its_own(fresh: Fresh) -> None:
    done: Acts = [(1, 1, 0, True), (2, 1, 5, False), (3, 1, 30, False), (4, 2, 30, False)]
    assert [row[2] for row in await filled(fresh(), done, [2], 1)] == [0, 0, 2, 0]


@pytest.mark.redis
@settings(max_examples=60, deadline=None)
@given(acts, st.lists(st.integers(0, 120), max_size=5), st.integers(1, 3), st.booleans())
async def test_redis_tells_what_memory_tells_however_often_a_group_comes(
    redis_context: Fresh, memory_context: Fresh, done: Acts, cuts: list[int], times: int, sort: bool
) -> None:
    done = in_time(done) if sort else done
    expected = await filled(memory_context(), done, cuts, 1)
    assert await filled(redis_context(), done, cuts, times) == expected


Told = list[tuple[int, ...]]  # of each event of a window, what it saw


async def windows_of(
    context: ContextStore, windows: WindowStore, done: Acts, *, again: bool
) -> list[list[Told]]:
    """By group, each event's window; `again`: each group comes twice, each third one thrice."""
    source, policy = Source("events", 0), WindowPolicy(size=4, slack=3)
    tag, seen = source_tag(source.topic), []
    for group, begin in enumerate(range(0, len(done), 7)):
        for _ in range((3 if group % 3 == 2 else 2) if again else 1):
            users, rows = rows_of(done)
            rows["id"] = np.arange(1, len(rows) + 1)
            rows["seq"] = [seq_of(tag, offset + 1) for offset in range(len(rows))]
            users, rows = users[begin : begin + 7], rows[begin : begin + 7]
            told = await context.fill(0, users, rows)
            logs = await windows.slide(source, users, rows, [seq_of(tag, begin)])
            await told.join()
            _, cut = as_of(logs, policy)
            seen.append(
                [
                    [tuple(int(row[f]) for f in FIELDS) for row in cut.rows[index[-length:]]]
                    for index, length in zip(cut.index, cut.length, strict=True)
                ]
            )
    return seen


@pytest.mark.redis
@settings(max_examples=40, deadline=None)
@given(acts)
async def test_windows_are_the_same_when_groups_come_again(client: Redis, done: Acts) -> None:
    done = in_time(done)
    prefix, policy = f"t{next(prefixes)}", WindowPolicy(size=4, slack=3)
    once = await windows_of(MemoryContext(PLAN), MemoryWindows(ROW, policy), done, again=False)
    with ThreadPoolExecutor(1) as pool:
        context = RedisContext(client, prefix, PLAN, executor=pool)
        windows = RedisWindows(client, prefix, ROW, policy, executor=pool)
        often = await windows_of(context, windows, done, again=True)
    times = [3 if group % 3 == 2 else 2 for group in range(len(once))]
    assert often == [cut for cut, n in zip(once, times, strict=True) for _ in range(n)]


@pytest.mark.redis
async def test_another_worker_reads_what_the_first_one_wrote(client: Redis) -> None:
    first: Acts = [(user, 1, 20 * user, False) for user in range(9)]
    then: Acts = [(user, 1, 7 * 3600 + 20 * user, True) for user in range(12)]
    expected = await filled(MemoryContext(PLAN), [*first, *then], [9], 1)
    with ThreadPoolExecutor(1) as pool:
        one, other = (RedisContext(client, "handed", PLAN, executor=pool) for _ in range(2))
        assert await filled(one, first, [], 1) + await filled(other, then, [], 1) == expected


@pytest.mark.redis
async def test_a_partition_that_comes_back_is_read_anew(client: Redis) -> None:
    """Without that, the first worker would take the users of hour 0 for new in hour 7."""
    users, hour_s = range(9), 3600
    parts: list[Acts] = [
        [(99, 2, 0, False)],
        [(user, 1, 20 + user, False) for user in users],
        [(user, 1, 7 * hour_s + 20 * user, False) for user in users],
    ]
    whole = [act for part in parts for act in part]
    expected = await filled(MemoryContext(PLAN), whole, [1, 10], 1)
    with ThreadPoolExecutor(1) as pool:
        one, other = (RedisContext(client, "back", PLAN, executor=pool) for _ in range(2))
        found = await filled(one, parts[0], [], 1) + await filled(other, parts[1], [], 1)
        one.begins(0)
        assert found + await filled(one, parts[2], [], 1) == expected


@pytest.mark.redis
async def test_every_key_expires(client: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        store = RedisContext(client, "forgotten", PLAN, executor=pool)
        await filled(store, [(1, 1, 0, False), (2, 2, 0, True)], [], 1)
    keys = list(client.scan_iter("forgotten:*"))
    assert len(keys) == 3
    assert all(client.ttl(key) > 24 * 3600 for key in keys)
    assert np.all([client.ttl(key) <= 61 * 24 * 3600 for key in keys])
