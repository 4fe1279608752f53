"""The embedded broker and Redis start, work, and leave nothing, however their process ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stream_app.edges.embedded import (
    PARTITIONS,
    Child,
    EmbeddedBroker,
    EmbeddedFailed,
    EmbeddedRedis,
)

ROOT = Path(__file__).resolve().parents[2]


async def test_an_idempotent_producer_and_a_group_work_on_the_embedded_broker() -> None:
    with EmbeddedBroker() as broker:
        broker.create(["in"])
        async with AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap, enable_idempotence=True
        ) as producer:
            assert await producer.partitions_for("in") == set(range(PARTITIONS))
            await producer.send_and_wait("in", b"value", key=b"key", headers=[("h", b"1")])
        async with AIOKafkaConsumer(
            "in",
            bootstrap_servers=broker.bootstrap,
            group_id="g",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        ) as consumer:
            record = await consumer.getone()
            assert (record.key, record.value, record.headers) == (b"key", b"value", (("h", b"1"),))
            await consumer.commit()


def test_the_broker_gives_its_port_back() -> None:
    broker = EmbeddedBroker()
    host, _, port = broker.bootstrap.partition(":")
    socket.create_connection((host, int(port)), timeout=1).close()
    broker.stop()
    _eventually(lambda: not _answers(host, int(port)))


@pytest.mark.redis
def test_redis_takes_writes_and_is_gone_afterwards() -> None:
    with EmbeddedRedis() as server:
        server.wait()
        client = redis.Redis.from_url(server.url)
        assert client.set("key", "value")
        assert client.config_get("save") == {"save": ""}
        client.close()
        folder, port = server.folder, server.port
        assert folder.is_dir()
    assert server.exit_code is not None
    assert not folder.exists()
    assert not _answers("127.0.0.1", port)


def test_a_child_that_ends_at_once_leaves_its_words() -> None:
    with Child("sh", ["/bin/sh", "-c", "echo no luck; exit 3"]) as child:
        _eventually(lambda: child.exit_code == 3)
        assert child.last_lines() == "no luck"


def test_a_child_that_does_not_exist_is_told() -> None:
    with pytest.raises(EmbeddedFailed, match="cannot be started"):
        Child("nothing", ["/no/such/program"])


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    stubborn = ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
    with Child("sh", stubborn, stop_s=0.3) as child:
        _eventually(lambda: child.last_lines() == "up")
        assert child.stop() == -signal.SIGKILL


@pytest.mark.redis
def test_redis_ends_with_a_process_that_is_killed() -> None:
    script = (
        "import time; from stream_app.edges.embedded import EmbeddedRedis; r = EmbeddedRedis(); "
        "r.wait(); print(r.pid, r.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        owner.kill()
    _eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(int(pid)))
    _eventually(lambda: not Path(folder).exists())


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_zombie(pid: int) -> bool:
    """Orphans may stay as zombies in a container without an init."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _eventually(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
