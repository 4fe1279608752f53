"""What a WindowStore in Redis promises besides."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from redis import Redis

from models.schema import Field, Schema, load
from stream_app.core.record import Source
from stream_app.core.window import DUPLICATE, WindowPolicy
from stream_app.edges.redis_windows import RedisWindows
from tests.contracts.window_logs import (
    EVENTS,
    POLICY,
    ROW,
    Fresh,
    acts,
    committed,
    prefixes,
    rows_of,
    slide,
)
from tests.core.oracle import Act


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
    slots = POLICY.horizon + 5
    assert client.strlen("lean:{0}:w:a") <= 26 + 8 + 2 * slots + (slots + 1) * 36 + 1


async def test_a_full_window_of_the_shop_takes_at_most_3_2_kb(client: Redis) -> None:
    row = load("shop").row
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, "small", row, WindowPolicy(), executor=pool)
        for n in range(100):
            some = np.zeros(1, row)
            some["at_ms"], some["id"] = 1_700_000_000_000 + n, n
            some["seq"] = committed(EVENTS, n + 1)
            await store.slide(EVENTS, [b"user-000001"], some, [committed(EVENTS, n)])
    assert (client.memory_usage("small:{0}:w:user-000001") or 9999) <= 3200


@pytest.mark.parametrize("fields", range(1, 17))
async def test_workers_from_before_refuse_a_log(client: Redis, fields: int) -> None:
    """They ask for the bytes of a row, or older ones whether it is made of rows throughout."""
    row = Schema(
        name="any",
        task_names=("t",),
        types={"x": "t"},
        fields=tuple(Field(name=f"f{n}", kind="ordinal", source="quantity") for n in range(fields)),
    ).row
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, f"refused{fields}", row, POLICY, executor=pool)
        for n in range(60):
            some = np.zeros(1, row)
            some["at_ms"], some["id"], some["seq"] = 1000 + n, n, committed(EVENTS, n + 1)
            await store.slide(EVENTS, [b"a"], some, [committed(EVENTS, max(0, n - 40))])
            key = f"refused{fields}:{{0}}:w:a"
            assert client.strlen(key) % row.itemsize
            value = client.get(key)
            assert isinstance(value, bytes)
            assert int.from_bytes(value[:2], "little") != row.itemsize


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


@pytest.mark.parametrize("headed", [False, True], ids=["rows alone", "with a head"])
async def test_a_log_as_it_was_stored_once_is_gone_on_with(client: Redis, headed: bool) -> None:
    """Rows as we have them, with ids and times of eight bytes."""
    history = [Act(1000 + n, 2**63 + (n << 16) + n, n) for n in range(12)]
    before, key = rows_of(history[:8]), f"once{headed}:{{0}}:w:a"
    value = before.tobytes()
    if headed:
        head = struct.pack("<HI2sIHIq", 40, 10, b"\1L", 8, 1, client.time()[0], 1007)
        front = head + struct.pack("<Q", committed(EVENTS, 8))
        front += b"".join(int(id_).to_bytes(8, "little")[:2] for id_ in before["id"])
        value = front.ljust(80, b"\0") + value + bytes(2 * 40 + 1)
    client.set(key, value)
    with ThreadPoolExecutor(1) as pool:
        store = RedisWindows(client, f"once{headed}", ROW, POLICY, executor=pool)
        again = [(b"a", history[7])]
        assert await slide(store, again, [committed(EVENTS, 0)]) == [history[4:8]]
        for at in (8, 9, 10):
            (found,) = await slide(store, [(b"a", history[at])], [committed(EVENTS, at)])
            assert found == history[at - 3 : at + 1]
        repeated = [(b"a", Act(1011, history[8].id, 11))]
        assert await slide(store, repeated, [committed(EVENTS, 11)]) == [DUPLICATE]


async def test_ids_of_one_mark_or_of_all_but_the_mark_are_told_apart(client: Redis) -> None:
    """The first two bytes of an id and the rest are kept in different places."""
    ids = [0x1111_0000_0000_2222, 0x3333_0000_0000_2222, 0x1111_0000_0000_4444]
    history = [Act(1000 + n, id_, n) for n, id_ in enumerate([*ids, *ids])]
    for size in (1, 6):
        with ThreadPoolExecutor(1) as pool:
            store = RedisWindows(client, f"marks{size}", ROW, POLICY, executor=pool)
            found: list[int | list[Act]] = []
            for begin in range(0, 6, size):
                batch = [(b"a", act) for act in history[begin : begin + size]]
                found += await slide(store, batch, [committed(EVENTS, begin)])
        assert found == [history[:1], history[:2], history[:3], *[DUPLICATE] * 3]


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
