"""Two workers of one group on a real Kafka, stopped and killed while their groups are under way."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream_app.core.outcome import Output
from tests.builders import click
from tests.servers import ROOT, Kafka
from tests.transport.worker import PARTITIONS

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
BACKLOG = 2000  # about a second of work
PATIENCE_S = 40.0


class Group:
    """Topics and workers of one group; what they published, and who."""

    def __init__(self, kafka: Kafka, folder: Path, delivery: str = "at-least-once") -> None:
        self.kafka, self.folder, self.delivery = kafka, folder, delivery
        self.name = f"transport-{uuid.uuid4().hex[:8]}"
        self.input, self.prefix = f"{self.name}.in", f"{self.name}.out."
        self.cleaned = f"{self.prefix}{Output.CLEANED}"
        # The events' own times are in the past; the broker must not delete them for that.
        kafka.create_topics(
            [self.input, *(f"{self.prefix}{output}" for output in Output)],
            partitions=PARTITIONS,
            config={"retention.ms": "-1"},
        )
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[tuple[int, int, str]] = []  # input partition, number, worker
        self.produced = 0
        self._producer = Producer(
            {"bootstrap.servers": kafka.address, "linger.ms": 20, "enable.idempotence": True}
        )
        self._reader = Consumer(
            {
                "bootstrap.servers": kafka.address,
                "group.id": f"{self.name}.reader",
                "enable.auto.commit": False,
            }
        )
        self._reader.assign([TopicPartition(self.cleaned, p, 0) for p in range(PARTITIONS)])

    def send(self, count: int) -> None:
        """So many events more, in the order of their numbers over all partitions."""
        for number in range(self.produced, self.produced + count):
            # A user is in one partition.
            event = click(f"u{number % (24 * PARTITIONS)}", at_ms=number, event_id=str(number))
            self._producer.produce(
                self.input, msgspec.json.encode(event), partition=number % PARTITIONS
            )
        self.produced += count
        assert self._producer.flush(30) == 0

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.workers[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.transport.worker", name, self.kafka.address),
                    *(self.name, self.input, self.prefix, str(self.folder / name), self.delivery),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def read_until(self, enough: int, by: str) -> None:
        """Read until one worker has published so many; meanwhile events go on coming."""
        deadline = time.monotonic() + PATIENCE_S
        while sum(who == by for *_, who in self.seen) < enough:
            assert time.monotonic() < deadline, f"only {Counter(w for *_, w in self.seen)}"
            self.send(100)
            self.read(0.2)

    def read_all(self) -> None:
        """Read until every event sent is published."""
        deadline = time.monotonic() + PATIENCE_S
        while len({n for _, n, _ in self.seen}) < self.produced:
            assert time.monotonic() < deadline, f"only {Counter(w for *_, w in self.seen)}"
            self.read(0.2)

    def read(self, wait_s: float) -> int:
        found = self._reader.consume(2000, wait_s)
        for message in found:
            assert message.error() is None
            number = int(msgspec.json.decode(message.value() or b"")["event_id"])
            who = dict(message.headers() or ())["shopsentry-model"]
            assert isinstance(who, bytes)
            self.seen.append((message.partition() or 0, number, who.decode()))
        return len(found)

    def close(self) -> None:
        self._reader.close()
        for worker in self.workers.values():
            if worker.poll() is None:
                worker.kill()
            worker.wait()


@pytest.fixture
def group(kafka: Kafka, tmp_path: Path) -> Iterator[Group]:
    with contextlib.closing(Group(kafka, tmp_path)) as made:
        made.send(BACKLOG)
        yield made


def test_a_worker_that_joins_and_one_that_stops_lose_nothing_and_repeat_nothing(
    group: Group,
) -> None:
    group.start("first")
    group.read_until(300, by="first")
    group.start("second")
    group.read_until(300, by="second")
    group.send(BACKLOG)
    group.workers["first"].send_signal(signal.SIGTERM)
    assert group.workers["first"].wait(20) == 0
    group.read_all()
    group.workers["second"].send_signal(signal.SIGTERM)
    assert group.workers["second"].wait(20) == 0
    while group.read(0.5):
        pass
    repeated = [n for n, times in Counter(n for _, n, _ in group.seen).items() if times > 1]
    assert repeated == []
    assert {n for _, n, _ in group.seen} == set(range(group.produced))
    for partition in range(PARTITIONS):
        order = [n for p, n, _ in group.seen if p == partition]
        assert order == sorted(order)


def test_a_worker_that_is_killed_loses_nothing_and_repeats_only_what_was_under_way(
    group: Group,
) -> None:
    group.start("first")
    group.start("second")
    group.read_until(300, by="first")
    group.read_until(300, by="second")
    group.send(BACKLOG)
    group.workers["first"].kill()
    group.read_all()
    numbers = Counter(n for _, n, _ in group.seen)
    assert set(numbers) == set(range(group.produced))
    assert max(numbers.values()) <= 2
