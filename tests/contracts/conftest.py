"""Stores of windows, in memory and in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from stream_app.edges.memory import MemoryWindows
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows
from tests.contracts.window_logs import POLICY, ROW, Fresh, prefixes
from tests.servers import RedisServer


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
def fresh_windows(request: pytest.FixtureRequest) -> Fresh:
    made: Fresh = request.getfixturevalue(f"{request.param}_windows")
    return made
