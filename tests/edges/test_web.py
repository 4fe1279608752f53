"""Who gets an answer at the web port."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request

import pytest

from stream_app.edges import web
from stream_app.edges.embedded import free_port
from stream_app.edges.web import Health, WebPort, admitted

TOKEN = "0123456789abcdef"
HEALTH = Health(status="ok", why="", partitions=1, lag_records=0, model="m", device="cpu")


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_needs_no_token(remote: str) -> None:
    assert admitted(remote, None, None)
    assert admitted(remote, None, TOKEN)


@pytest.mark.parametrize("remote", ["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", None, "socket"])
def test_another_machine_needs_the_token(remote: str | None) -> None:
    assert admitted(remote, f"Bearer {TOKEN}", TOKEN)
    for wrong in (
        None,
        "",
        TOKEN,
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        "Bearer \udcff",
    ):
        assert not admitted(remote, wrong, TOKEN)
    for given in (None, "Bearer None", "Bearer "):
        assert not admitted(remote, given, None)


async def test_each_answer_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_is_loopback", lambda _: False)  # we play another machine
    port = free_port()
    server = WebPort("127.0.0.1", port, lambda: HEALTH, lambda: b"lag 1", TOKEN)
    await server.on_start()
    try:
        for path in ("/health", "/metrics", "/nothing"):
            assert await _asked(port, path, "Bearer wrong") == 401
        assert await _asked(port, "/health", f"Bearer {TOKEN}") == 200
        assert await _asked(port, "/metrics", f"Bearer {TOKEN}") == 200
        assert await _asked(port, "/nothing", f"Bearer {TOKEN}") == 404
    finally:
        await server.on_stop()


async def _asked(port: int, path: str, authorization: str) -> int:
    def ask() -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", headers={"Authorization": authorization}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    return await asyncio.to_thread(ask)
