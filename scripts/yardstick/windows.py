"""The yardstick's windows: a sorted set a user, a member an event, four commands an event."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import redis.asyncio

from stream_app.core.window import Rows

SIZE: Final = 64
TTL_S: Final = 25 * 3600


def key_of(user: str) -> str:
    return f"window:{user}"


def members(rows: Rows) -> dict[bytes, float]:
    """Rows as a sorted set takes them: by event time."""
    return {row.tobytes(): float(row["at_ms"]) for row in rows}


async def slide(client: redis.asyncio.Redis, user: str, row: Rows) -> Rows:
    """Add one event; the user's newest 64, by event time."""
    key = key_of(user)
    await client.zadd(key, members(row))
    await client.zremrangebyrank(key, 0, -SIZE - 1)
    found: Any = await client.zrange(key, 0, -1)
    await client.expire(key, TTL_S)
    return np.frombuffer(b"".join(found), row.dtype)
