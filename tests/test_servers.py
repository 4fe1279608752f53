"""The test servers themselves: they start, survive a kill, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer

from tests.servers import ROOT, KafkaBroker, RedisServer, ServerFailed


def test_redis_starts_and_stops(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        pid = server.pid
        with redis.Redis.from_url(server.url) as client:
            assert client.set("a", "1")
            assert client.get("a") == b"1"
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_redis_comes_back_empty_at_its_address_after_a_kill(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", "1")
        server.kill()
        assert server.pid is None
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        server.restart()
        assert client.get("a") is None


def test_a_paused_redis_keeps_its_connections_and_can_be_stopped(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        with redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client:
            client.ping()
            server.pause()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.resume()
            assert client.ping()
        server.pause()


def test_settings_reach_redis(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, {"maxmemory": "64mb"}) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"(?s)ended at once.*no-such-setting"):
        RedisServer(tmp_path, {"no-such-setting": "1"}).start()


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.servers import RedisServer\n"
        "server = RedisServer(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    assert psutil.pid_exists(pid)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)


@pytest.mark.slow
def test_kafka_keeps_its_records_over_a_kill(kafka_broker: KafkaBroker) -> None:
    kafka_broker.create_topics(["kept"], partitions=2, config={"retention.ms": "-1"})
    _produce(kafka_broker.address, "kept", [b"before"])
    address, pid = kafka_broker.address, kafka_broker.pid

    kafka_broker.kill()
    kafka_broker.restart()

    assert kafka_broker.address == address
    assert kafka_broker.pid != pid
    _produce(kafka_broker.address, "kept", [b"after"])
    assert _consume(kafka_broker.address, "kept", 2) == {b"before", b"after"}


def test_kafka_makes_no_topic_that_nobody_asked_for(kafka_broker: KafkaBroker) -> None:
    admin = kafka_broker.admin()
    admin.list_topics("typo", timeout=5)
    assert "typo" not in admin.list_topics(timeout=5).topics


@pytest.mark.slow
@pytest.mark.kafka
def test_a_stopped_broker_leaves_no_process(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path) as broker:
        pid = broker.pid
    assert pid is not None
    assert not _runs(pid)
    mine = psutil.Process().children(recursive=True)
    assert not [child for child in mine if str(pid) in child.cmdline()]  # nor the shell beside it


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _produce(address: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def _consume(address: str, topic: str, count: int) -> set[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"group-of-{topic}",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    try:
        got: set[bytes] = set()
        deadline = time.monotonic() + 30
        while len(got) < count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                value = message.value()
                assert value is not None
                got.add(value)
        return got
    finally:
        consumer.close()
