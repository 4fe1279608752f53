"""What a worker needs besides Kafka, looked at before it starts; answers are for people."""

from __future__ import annotations

import asyncio
import socket

import redis

from stream_app.core.errors import Misconfigured


async def check_redis(client: redis.Redis, shown_url: str) -> None:
    """Redis answers and takes writes. Raises Misconfigured."""
    try:
        await asyncio.to_thread(client.ping)
    except redis.RedisError as error:
        raise Misconfigured(
            f"Redis does not answer at {shown_url}: {error}. Start it, or say where it is with "
            "SHOPSENTRY_REDIS__URL."
        ) from error


def check_port(host: str, port: int) -> None:
    """The web port can be opened. Raises Misconfigured."""
    if port == 0:
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Misconfigured(
                f"The web port {host}:{port} cannot be opened: {error.strerror}. Choose another "
                "with SHOPSENTRY_WEB__PORT (0 takes any that is free)."
            ) from error
