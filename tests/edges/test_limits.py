"""What users leave in Redis goes away by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import schema as schemas
from scripts.measure_context import Day, measure
from scripts.measure_limits import fill
from stream_app.core.window import HEAD
from stream_app.edges.redis_client import connect
from tests.servers import RedisServer


@pytest.mark.redis
async def test_every_key_of_a_user_has_an_end_and_users_cost_little(tmp_path: Path) -> None:
    row = np.dtype([*HEAD, ("rest", "V16")])
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        found = await fill(client, row, users=5000, events=2, look=6000)
    assert found.keys >= 5000
    assert found.without_end == 0
    assert 0 < found.longest_ttl_s <= 8 * 86_400
    assert 2 * row.itemsize < found.bytes_a_user < 1000


@pytest.mark.redis
async def test_what_the_site_saw_has_an_end_and_items_cost_little(tmp_path: Path) -> None:
    schema = schemas.load("shop-context")
    day = Day(items=5000, events=15_000, users=300)  # enough that what Redis needs itself is little
    with RedisServer(tmp_path) as server, connect(server.url) as client:
        found = await measure(client, day, schema.row, schema.context)
    assert found.keys >= 5000
    assert found.without_end == 0
    assert 24 * 3600 < found.longest_ttl_s <= 61 * 86_400
    assert 8 < found.bytes_an_item < 600
