"""What every WindowStore promises, in memory and in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from stream_app.core.errors import Misconfigured
from stream_app.core.ports import WindowStore
from stream_app.core.record import Source
from stream_app.core.window import (
    DUPLICATE,
    HEAD,
    LATE,
    Logs,
    WindowPolicy,
    as_of,
    seq_of,
    source_tag,
)
from stream_app.edges.memory import MemoryWindows
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows
from tests.core.oracle import Act, judge
from tests.servers import RedisServer

ROW = np.dtype([*HEAD, ("type", "u1"), ("pad", "V15")])
POLICY = WindowPolicy(size=4, slack=3, span_ms=900, lateness_ms=60)
EVENTS = Source("events", 0)
MORE = Source("more-events", 0)
prefixes = count()
# Not shrunk: a failure would take minutes to tell.
RANDOM = settings(max_examples=150, deadline=None, phases=[Phase.reuse, Phase.generate])

Fresh = Callable[[], WindowStore]  # another store, without users


@pytest.fixture(scope="module")
def client(redis_server: RedisServer) -> Iterator[Redis]:
    with connect(redis_server.url) as client:
        yield client


@pytest.fixture(scope="module")
def memory_windows() -> Fresh:
    return lambda: MemoryWindows(ROW, POLICY)


@pytest.fixture(scope="module")
def redis_windows(client: Redis) -> Iterator[Fresh]:
    with ThreadPoolExecutor(2) as pool:
        yield lambda: RedisWindows(
            client, f"t{next(prefixes)}", ROW, POLICY, executor=pool, chunk_users=2
        )


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    made: Fresh = request.getfixturevalue(f"{request.param}_windows")
    return made


def rows_of(acts: list[Act], source: Source = EVENTS) -> np.ndarray:
    rows = np.zeros(len(acts), ROW)
    for at, act in enumerate(acts):
        rows[at]["at_ms"], rows[at]["id"] = act.at_ms, act.id
        rows[at]["seq"] = seq_of(source_tag(source.topic), act.offset + 1)
    return rows


def committed(source: Source, offset: int) -> int:
    """All before `offset` is done."""
    return seq_of(source_tag(source.topic), offset)


def answers(logs: Logs) -> list[int | list[Act]]:
    """DUPLICATE, LATE or the window of each event."""
    found: list[int | list[Act]] = [int(p) for p in logs.place]
    accepted, windows = as_of(logs, POLICY)
    for position, index, length in zip(accepted, windows.index, windows.length, strict=True):
        rows = windows.rows[index[len(index) - length :]]
        found[position] = [
            Act(int(r["at_ms"]), int(r["id"]), (int(r["seq"]) & (1 << 48) - 1) - 1) for r in rows
        ]
    return found


History = list[tuple[bytes, Act]]


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
    return answers(
        await store.slide(source, users, rows_of([act for _, act in batch], source), done)
    )


@RANDOM
@given(histories(), st.data())
async def test_windows_equal_the_naive_ones_however_batches_fall_and_fall_again(
    fresh: Fresh, history: History, data: st.DataObject
) -> None:
    expected: dict[int, int | list[Act]] = {}
    for name in (b"a", b"b", b"c"):
        own = [act for user, act in history if user == name]
        expected.update(zip((act.offset for act in own), judge(own, POLICY), strict=True))

    store = fresh()
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
            if isinstance(there, list):
                assert found == there
            else:
                assert found in (there, first.get((source, act.offset), there))
            first.setdefault((source, act.offset), found)
        ahead[source] = max(ahead[source], begin + len(batch))
        if data.draw(st.booleans()):
            acked[source] = data.draw(st.integers(acked[source], ahead[source]))


async def test_a_thousand_events_of_one_user_in_one_batch(fresh: Fresh) -> None:
    late = {n for n in range(1000) if n % 50 == 7}
    history = [Act(10_000 + 10 * n - 45 * (n in late), n, n) for n in range(1000)]
    batch = [(b"a", act) for act in history]
    store = fresh()
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


async def test_a_thousand_copies_of_one_event_are_one_event(fresh: Fresh) -> None:
    batch = [(b"a", Act(10_000, 7, n)) for n in range(1000)]
    assert await slide(fresh(), batch, []) == [[batch[0][1]], *[DUPLICATE] * 999]


async def test_windows_do_not_depend_on_the_size_of_batches(fresh: Fresh) -> None:
    rng = np.random.default_rng(1)
    history = [
        (b"user-%d" % rng.integers(20), Act(10_000 + 5 * n - int(rng.choice([0, 0, 0, 30])), n, n))
        for n in range(300)
    ]
    seen = []
    for size in (7, 64, 300):
        store = fresh()
        found: list[int | list[Act]] = []
        for begin in range(0, len(history), size):
            done = [committed(EVENTS, max(0, begin - size))]
            found += await slide(store, history[begin : begin + size], done)
        seen.append(found)
    assert seen[0] == seen[1] == seen[2]


async def test_why_an_event_was_left_out_is_told_again(fresh: Fresh) -> None:
    #  t 1000 ......... 1100 | 1039 late (61 before 1100)   the first id again
    history = [Act(1000, 1, 0), Act(1100, 2, 1), Act(1039, 3, 2), Act(1100, 1, 3), Act(1200, 4, 4)]
    batch = [(b"a", act) for act in history]
    store = fresh()
    first = await slide(store, batch, [])
    assert first[2:4] == [LATE, DUPLICATE]
    assert await slide(store, batch[2:], []) == first[2:]


async def test_no_events_are_no_error(fresh: Fresh) -> None:
    logs = await fresh().slide(EVENTS, [], rows_of([]), [])
    accepted, windows = as_of(logs, POLICY)
    assert len(accepted) == len(windows) == 0


async def test_partitions_keep_users_apart_and_user_names_may_be_any_bytes(
    redis_windows: Fresh, client: Redis
) -> None:
    store = redis_windows()
    strange = [b"", b"\x00\xff{}", "Käufer 1".encode(), b"a b\r\n"]
    batch = [(user, Act(1000, n, n)) for n, user in enumerate(strange)]
    for partition in (0, 1):
        source = Source("events", partition)
        assert await slide(store, batch, [], source) == [[act] for _, act in batch]


async def test_every_key_expires(client: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "expiring", ROW, POLICY, executor=pool)
        for n in range(3):
            await slide(store, [(b"%d" % user, Act(n, n, n)) for user in range(n + 1)], [])
    keys = list(client.scan_iter("expiring:*"))
    assert sorted(keys) == [b"expiring:{0}:w:%d" % user for user in range(3)]
    assert all(3590 < client.ttl(key) <= 3601 for key in keys)


async def test_a_user_who_was_silent_for_long_is_gone_and_begins_anew(client: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "silent", ROW, POLICY, executor=pool, ttl_s=1)
        await slide(store, [(b"a", Act(1000, 1, 0)), (b"b", Act(1000, 2, 1))], [])
        until = time.monotonic() + 30
        while kept := list(client.scan_iter("silent:*")):
            assert time.monotonic() < until, kept
            await asyncio.sleep(0.1)
        assert await slide(store, [(b"a", Act(1001, 3, 2))], []) == [[Act(1001, 3, 2)]]


async def test_redis_keeps_only_what_may_be_needed(client: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "lean", ROW, POLICY, executor=pool)
        for n in range(30):
            await slide(store, [(b"a", Act(n, n, n))], [committed(EVENTS, n)])
    # The horizon of a coming event, slots to spare, and what comes before them.
    slots = POLICY.horizon + 8
    assert client.strlen("lean:{0}:w:a") <= 26 + 8 + 2 * slots + (slots + 1) * ROW.itemsize + 1


async def test_workers_that_know_of_rows_alone_refuse_a_log(client: Redis) -> None:
    """They ask whether it is made of rows throughout."""
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "refused", ROW, POLICY, executor=pool)
        for n in range(30):
            await slide(store, acts(n, 1), [committed(EVENTS, n)])
            assert client.strlen("refused:{0}:w:a") % ROW.itemsize == 1


async def test_a_log_expires_also_if_the_clock_was_ahead_when_it_was_written(
    client: Redis,
) -> None:
    key, year = "ahead:{0}:w:a", 365 * 24 * 3600
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "ahead", ROW, POLICY, executor=pool)
        await slide(store, acts(0, 4), [])
        client.setrange(key, 14, (client.time()[0] + year).to_bytes(4, "little"))
        client.expire(key, year)
        size = client.strlen(key)
        await slide(store, acts(4, 1), [])
    assert client.strlen(key) == size, "there was room"
    assert client.ttl(key) <= 3601


async def test_a_log_of_rows_alone_as_it_was_stored_once_is_gone_on_with(client: Redis) -> None:
    history = [Act(1000 + n, n, n) for n in range(12)]
    client.set("rows-alone:{0}:w:a", rows_of(history[:8]).tobytes())
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "rows-alone", ROW, POLICY, executor=pool)
        for at in (8, 9, 10):
            (found,) = await slide(store, [(b"a", history[at])], [committed(EVENTS, at)])
            assert found == history[at - 3 : at + 1]


class Meddling:
    """A client whose server has something else happen between a script and a read behind it."""

    def __init__(self, client: Redis, happens: Callable[[], object]) -> None:
        self._client: Any = client
        self._happens = happens
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def pipeline(self, transaction: bool) -> Meddling:
        self._commands: list[tuple[object, ...]] = []
        return self

    def execute_command(self, *command: object) -> None:
        self._commands.append(command)

    def execute(self, raise_on_error: bool) -> list[object]:
        script, read = self._commands
        found = [self._client.execute_command(*script)]
        self.calls += 1
        if self.calls == 1:
            self._happens()
        return [*found, self._client.execute_command(*read)]


@pytest.mark.parametrize(
    ("what", "first"),
    [
        ("evicted", 10),
        ("evicted, and in part delivered again", 10),
        ("slid on by somebody else", 7),
        ("made rows alone by a worker from before", 7),
    ],
)
async def test_what_happens_between_script_and_read_is_noticed(
    client: Redis, what: str, first: int
) -> None:
    history = [Act(1000 + n, 100 + n, n) for n in range(13)]
    prefix = f"t{next(prefixes)}"
    key = f"{prefix}:{{0}}:w:a"
    with ThreadPoolExecutor(1) as pool:
        other = RedisWindows(client, prefix, ROW, POLICY, executor=pool)
        await slide(other, [(b"a", act) for act in history[:10]], [committed(EVENTS, 0)])

        def happens() -> None:
            if what.startswith("evicted"):
                client.delete(key)
            if what == "made rows alone by a worker from before":
                client.set(key, rows_of(history[:12]).tobytes())
            if what == "evicted, and in part delivered again":
                asyncio.run(slide(other, [(b"a", history[11])], [committed(EVENTS, 10)]))
            if what == "slid on by somebody else":
                asyncio.run(slide(other, [(b"a", history[12])], [committed(EVENTS, 12)]))

        meddling = Meddling(client, happens)
        with ThreadPoolExecutor(1) as own:
            store = RedisWindows(meddling, prefix, ROW, POLICY, executor=own)  # type: ignore[arg-type]
            client.script_load(store._script._text)
            batch = [(b"a", act) for act in history[10:12]]
            found = await slide(store, batch, [committed(EVENTS, 10)])
    assert meddling.calls == 2
    assert found == [history[first:11], history[max(8, first) : 12]]


@pytest.mark.parametrize("pending", [True, False])
async def test_rows_that_may_come_again_are_kept_whatever_other_topics_commit(
    fresh: Fresh, pending: bool
) -> None:
    store = fresh()
    waiting = [(b"a", Act(1000, 1, 0))]
    await slide(store, waiting, [], MORE)
    for n in range(0, 40, 2):
        done = [committed(EVENTS, n), committed(MORE, 0 if pending else 1)]
        await slide(store, [(b"a", Act(1100 + k, 50 + k, k)) for k in (n, n + 1)], done)
    again = await slide(store, waiting, done, MORE)
    assert again == [[waiting[0][1]] if pending else DUPLICATE]


async def test_a_zombie_does_not_bring_back_what_was_forgotten_under_newer_commits(
    fresh: Fresh,
) -> None:
    """Of its topic no row is left in the user's log: its old one would look new."""
    store = fresh()
    old, then = [(b"a", Act(1100, 1, 0))], [committed(EVENTS, 0), committed(MORE, 0)]
    await slide(store, old, then, MORE)
    for n in range(0, 40, 2):
        done = [committed(EVENTS, n), committed(MORE, 1)]
        await slide(store, [(b"a", Act(1100 + k, 50 + k, k)) for k in (n, n + 1)], done)
    assert await slide(store, old, then, MORE) == [DUPLICATE]
    (window,) = await slide(store, [(b"a", Act(1140, 99, 40))], done)
    assert isinstance(window, list)
    assert [act.id for act in window] == [87, 88, 89, 99]


async def test_what_is_committed_and_not_stored_is_not_accepted_again(fresh: Fresh) -> None:
    store = fresh()
    await slide(store, [(b"a", Act(1000, 1, 0))], [])
    batch = [(b"a", Act(1001, 2, 3)), (b"b", Act(1001, 3, 4)), (b"a", Act(1002, 4, 5))]
    answer = await slide(store, batch, [committed(EVENTS, 5)])
    assert answer == [DUPLICATE, DUPLICATE, [Act(1000, 1, 0), Act(1002, 4, 5)]]


async def test_a_topic_whose_offsets_started_over_is_refused(fresh: Fresh) -> None:
    windows = fresh()
    await windows.slide(EVENTS, [b"a"] * 3, rows_of([Act(1000 + n, n, n) for n in range(3)]), [])
    with pytest.raises(Misconfigured, match="made anew"):
        await windows.slide(EVENTS, [b"a"], rows_of([Act(5000, 77, 1)]), [])


def acts(first: int, count: int) -> History:
    return [(b"a", Act(1000 + n, n, n)) for n in range(first, first + count)]


async def test_what_was_lost_and_comes_again_is_no_duplicate(fresh: Fresh) -> None:
    """Two groups are on their way, all is lost between them, and both come again."""
    store, done = fresh(), [committed(EVENTS, 10)]
    await slide(store, acts(0, 10), [committed(EVENTS, 0)])
    await slide(store, acts(10, 2), done)
    store = _without_memory(store)
    await slide(store, acts(12, 2), done)
    assert await slide(store, acts(10, 4), done) == [
        [a for _, a in acts(10, n)] for n in range(1, 5)
    ]
    again = await slide(store, acts(14, 1), done)
    assert again == [[a for _, a in acts(11, 4)]]


async def test_what_was_lost_of_two_topics_stands_where_it_stood(fresh: Fresh) -> None:
    store, done = fresh(), [committed(EVENTS, 0), committed(MORE, 0)]
    await slide(store, acts(0, 2), done)
    store = _without_memory(store)
    other = [(b"a", Act(1010 + n, 100 + n, n)) for n in range(2)]
    await slide(store, acts(2, 1), done)
    await slide(store, other, done, MORE)
    answer = await slide(store, acts(0, 3), done)
    assert answer == [[a for _, a in acts(0, n)] for n in range(1, 4)]


async def test_what_a_zombie_brings_was_not_lost(fresh: Fresh) -> None:
    """Its old row was forgotten under newer commits than it knows of."""
    store = fresh()
    await slide(store, acts(0, 1), [committed(EVENTS, 0)])
    for n in range(1, 41, 2):
        await slide(store, acts(n, 2), [committed(EVENTS, n)])
    assert await slide(store, acts(0, 1), [committed(EVENTS, 0)]) == [DUPLICATE]


@RANDOM
@given(histories(30), st.data())
async def test_whatever_is_lost_whenever_every_event_that_is_not_repeated_is_accepted(
    fresh: Fresh, history: History, data: st.DataObject
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
    store, done, settled = fresh(), 0, 0
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
