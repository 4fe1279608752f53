"""A real Apache Kafka: a broker, and whatever a test does with one."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream_app.edges.embedded import LOOPBACK, free_port
from tests.servers.process import ROOT, Server, ServerFailed

POM = ROOT / "scripts" / "kafka" / "pom.xml"
JARS = ROOT / ".cache" / "kafka"


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
