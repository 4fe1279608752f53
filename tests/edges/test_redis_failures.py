"""What the edges make of a Redis that is gone, full, empty or closed to us."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from redis.exceptions import ResponseError

from stream_app.core.alerting import AlertPolicy, Anomaly
from stream_app.core.errors import Misconfigured, StoreUnavailable
from stream_app.core.record import Source
from stream_app.core.window import HEAD, Rows, WindowPolicy, as_of
from stream_app.edges.memory import MemoryWindows
from stream_app.edges.redis_alerts import RedisAlertLog
from stream_app.edges.redis_client import connect, translated
from stream_app.edges.redis_windows import RedisWindows
from tests.servers import RedisServer

pytestmark = pytest.mark.redis

ROW = np.dtype([*HEAD, ("rest", "V16")])
SOURCE = Source("events", 0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """This test may kill it."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Redis]:
    with connect(server.url, timeout_s=1.0) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def windows(client: Redis, pool: ThreadPoolExecutor) -> RedisWindows:
    return RedisWindows(client, "t", ROW, WindowPolicy(), executor=pool)


@pytest.fixture
def alerts(client: Redis, pool: ThreadPoolExecutor) -> RedisAlertLog:
    return RedisAlertLog(client, "t", AlertPolicy(), executor=pool)


def batch(events: int, first: int = 1) -> tuple[list[bytes], Rows]:
    """An event of each of 50 users, again and again."""
    rows = np.zeros(events, ROW)
    rows["seq"] = rows["at_ms"] = rows["id"] = first + np.arange(events)
    return [b"u%d" % (n % 50) for n in range(events)], rows


async def test_a_killed_redis_is_unavailable_until_it_is_back(
    server: RedisServer, windows: RedisWindows, alerts: RedisAlertLog
) -> None:
    users, rows = batch(10)
    await windows.slide(SOURCE, users, rows, [])
    server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await windows.slide(SOURCE, users, rows, [])
    with pytest.raises(StoreUnavailable):
        await alerts.judge(0, [Anomaly("u", 0, 1, 1)])
    server.start()
    logs = await windows.slide(SOURCE, users, rows, [])
    assert (logs.place == logs.start).all()
    assert (await alerts.judge(0, [Anomaly("u", 0, 1, 1)]))[0].alert


async def test_a_silent_redis_is_unavailable(
    server: RedisServer, client: Redis, windows: RedisWindows
) -> None:
    users, rows = batch(10)
    server.pause()
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        await windows.slide(SOURCE, users, rows, [])
    server.resume()
    logs = await windows.slide(SOURCE, users, rows, [])
    assert (logs.place == logs.start).all()


async def test_a_full_redis_is_unavailable_and_the_same_batch_goes_in_later(
    client: Redis, windows: RedisWindows, alerts: RedisAlertLog
) -> None:
    policy = WindowPolicy()
    memory = MemoryWindows(ROW, policy)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
    refused = None
    for step in range(60):
        users, rows = batch(1000, first=1 + 1000 * step)
        expected = as_of(await memory.slide(SOURCE, users, rows, [1000 * step]), policy)[1]
        try:
            await windows.slide(SOURCE, users, rows, [1000 * step])
        except StoreUnavailable as error:
            refused = error
            break
    assert str(refused) == "Redis is full (maxmemory)"
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        await alerts.judge(0, [Anomaly("u", 0, 1, 1)])

    client.config_set("maxmemory", 0)
    cut = as_of(await windows.slide(SOURCE, users, rows, [1000 * step]), policy)[1]
    assert cut.length.tolist() == expected.length.tolist()
    assert (cut.rows[cut.index][cut.mask()] == expected.rows[expected.index][expected.mask()]).all()
    assert (await alerts.judge(0, [Anomaly("u", 0, 1, 1)]))[0].alert


async def test_a_flushed_redis_knows_new_users_only(client: Redis, windows: RedisWindows) -> None:
    await windows.slide(SOURCE, *batch(100), [])
    client.flushall()
    logs = await windows.slide(SOURCE, *batch(50, first=101), [])
    assert (logs.place == logs.start).all()


async def test_a_replica_is_unavailable(client: Redis, windows: RedisWindows) -> None:
    client.config_set("replica-serve-stale-data", "yes")
    client.replicaof("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="replica"):
        await windows.slide(SOURCE, *batch(10), [])
    client.replicaof("NO", "ONE")
    logs = await windows.slide(SOURCE, *batch(10), [])
    assert (logs.place == logs.start).all()


async def test_a_wrong_password_is_a_mistake_in_the_settings(
    server: RedisServer, client: Redis, pool: ThreadPoolExecutor
) -> None:
    client.config_set("requirepass", "secret")
    with connect(server.url) as stranger:
        windows = RedisWindows(stranger, "t", ROW, WindowPolicy(), executor=pool)
        with pytest.raises(Misconfigured, match="user and password"):
            await windows.slide(SOURCE, *batch(1), [])


async def test_a_user_without_rights_to_the_keys_is_a_mistake_in_the_settings(
    server: RedisServer, client: Redis, pool: ThreadPoolExecutor
) -> None:
    client.acl_setuser(
        "reader", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"]
    )
    with connect(f"redis://reader:pw@{server.address}/0") as reader:
        windows = RedisWindows(reader, "t", ROW, WindowPolicy(), executor=pool)
        with pytest.raises(Misconfigured):
            await windows.slide(SOURCE, *batch(1), [])


async def test_a_user_without_rights_to_a_script_s_commands_is_a_mistake_in_the_settings(
    server: RedisServer, client: Redis, pool: ThreadPoolExecutor
) -> None:
    client.acl_setuser(
        "timeless", enabled=True, passwords=["+pw"], keys=["t:*"], commands=["+@all", "-time"]
    )
    with connect(f"redis://timeless:pw@{server.address}/0") as timeless:
        windows = RedisWindows(timeless, "t", ROW, WindowPolicy(), executor=pool)
        with pytest.raises(Misconfigured, match="may not do this"):
            await windows.slide(SOURCE, *batch(1), [])


async def test_logs_of_other_rows_are_not_touched(
    client: Redis, windows: RedisWindows, pool: ThreadPoolExecutor
) -> None:
    await windows.slide(SOURCE, *batch(1), [])
    wider = np.dtype([*HEAD, ("rest", "V24")])
    with pytest.raises(Misconfigured, match="another prefix"):
        await RedisWindows(client, "t", wider, WindowPolicy(), executor=pool).slide(
            SOURCE, [b"u0"], np.zeros(1, wider), []
        )


def test_a_url_that_is_none_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(Misconfigured, match="URL"):
        connect("http://redis")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Error running script (call to f_1): @user_script:1: -OOM command not allowed", True),
        ("Error running script: @user_script: 9: -READONLY You can't write against", True),
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("BUSY Redis is busy running a script", True),
        ("wrong number of arguments", False),
    ],
)
def test_refusals_are_known_by_their_text(text: str, expected: bool) -> None:
    assert isinstance(translated(ResponseError(text)), StoreUnavailable) == expected
