"""The worker's web port: /health and /metrics; from another machine, only with the token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aiohttp import web
from mode import Service
from msgspec import Struct, json

from stream_app.core.errors import Misconfigured


class Health(Struct, frozen=True, kw_only=True):
    """What /health answers; with status 503 unless it is ok, so that probes see it."""

    status: Literal["ok", "starting", "degraded"]
    why: str  # empty if ok
    partitions: int  # assigned to this worker
    lag_records: int
    model: str
    device: str


class WebPort(Service):  # type: ignore[misc]
    """An HTTP server that Faust starts and stops with the worker."""

    def __init__(
        self,
        host: str,
        port: int,
        health: Callable[[], Health],
        metrics: Callable[[], bytes],
        token: str | None = None,
    ) -> None:
        """Without a `token`, no other machine gets an answer."""
        super().__init__()
        self._token = token
        self._host, self._port = host, port
        self._health, self._metrics = health, metrics
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/health", self._get_health)
        app.router.add_get("/metrics", self._get_metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            raise Misconfigured(
                f"The web port {self._host}:{self._port} cannot be opened ({error.strerror}). "
                "Choose another with SHOPSENTRY_WEB__PORT."
            ) from error

    async def on_stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not admitted(request.remote, request.headers.get("Authorization"), self._token):
            raise web.HTTPUnauthorized(
                text="another machine needs the token (SHOPSENTRY_WEB__TOKEN)\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    async def _get_health(self, _request: Any) -> web.Response:
        health = self._health()
        status = 200 if health.status == "ok" else 503
        return web.Response(
            body=json.encode(health), status=status, content_type="application/json"
        )

    async def _get_metrics(self, _request: Any) -> web.Response:
        return web.Response(body=self._metrics(), content_type="text/plain")


def admitted(remote: str | None, authorization: str | None, token: str | None) -> bool:
    """Whether who asks from the address `remote`, with this header, may have an answer."""
    if remote is not None and _is_loopback(remote):
        return True
    if token is None or authorization is None:
        return False
    wanted = f"Bearer {token}".encode()
    return hmac.compare_digest(authorization.encode("utf-8", "surrogateescape"), wanted)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return bool((mapped or found).is_loopback)
