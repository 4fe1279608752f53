"""Real workers as processes on a real Kafka and a real Redis, and what they leave in the topics."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from stream_app.core.outcome import Output
from stream_app.edges.embedded import free_port
from tests.servers import Kafka, RedisServer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


class Sent(NamedTuple):
    """What a test puts into the input topic."""

    key: bytes | None
    value: bytes | None
    timestamp: int  # epoch ms
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Read(NamedTuple):
    """What it finds in an output topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: list[tuple[str, bytes]]


class Rig:
    """Topics, a consumer group and Redis keys of its own, on shared servers."""

    def __init__(self, kafka: Kafka, redis: RedisServer, folder: Path) -> None:
        self.kafka, self.redis, self.folder = kafka, redis, folder
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.input = f"{self.name}.events"
        self.partitions = 4
        self.workers: list[Worker] = []
        self.variables: dict[str, str] = {}  # of the workers, beside the settings

    def topic(self, output: Output) -> str:
        return f"{self.name}.out.{output}"

    def create_topics(self, **config: str) -> None:
        """`config` as in max_message_bytes="1000". Old records stay: tests bring own times."""
        names = [self.input, *(self.topic(output) for output in Output)]
        settings = {"retention.ms": "-1"} | {k.replace("_", "."): v for k, v in config.items()}
        self.kafka.create_topics(names, partitions=self.partitions, config=settings)

    def environment(self, **settings: object) -> dict[str, str]:
        """For a worker of this rig; `kafka__group="g"` is SHOPSENTRY_KAFKA__GROUP."""
        ours = {
            "kafka__bootstrap": self.kafka.address,
            "kafka__group": self.name,
            "kafka__input_topics": self.input,
            "kafka__output_prefix": f"{self.name}.out.",
            "redis__url": self.redis.url,
            "redis__prefix": self.name,
            "scorer__device": "cpu",
            "scorer__threads": 1,
            "web__port": 0,
            **settings,
        }
        rest = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSENTRY_")}
        rest |= self.variables
        return rest | {f"SHOPSENTRY_{name}".upper(): str(value) for name, value in ours.items()}

    def produce(self, records: Iterable[Sent], topic: str | None = None, **settings: object) -> int:
        """How many were sent; a record without partition goes by its key, as Java's clients do."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka.address,
            "partitioner": "murmur2_random",
        }
        config["enable.idempotence"] = True  # or retries may put records into another order
        config |= {"linger.ms": 20, "message.max.bytes": 20_000_000, **settings}
        producer, count = Producer(config), 0
        for record in records:
            where: dict[str, Any] = {}
            if record.partition is not None:
                where["partition"] = record.partition
            producer.produce(
                topic or self.input,
                record.value,
                record.key,
                timestamp=record.timestamp,
                headers=list(record.headers),
                **where,
            )
            count += 1
            producer.poll(0)
        assert producer.flush(30) == 0
        return count

    def read(self, output: Output) -> list[Read]:
        """All of an output topic, by partition and offset."""
        topic = self.topic(output)
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka.address,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # transactions have offsets too: they count nothing
                "fetch.message.max.bytes": 20_000_000,
            }
        )
        found: list[Read] = []
        try:
            unread = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, p, 0) for p in unread])
            deadline = time.monotonic() + PATIENCE_S
            while unread:
                assert time.monotonic() < deadline, f"{topic}: {len(found)} read, not {unread}"
                m: Any  # half of what a message has is optional, but not once there is no error
                for m in consumer.consume(1000, timeout=1.0):
                    if m.error() is not None:
                        assert m.error().code() == KafkaError._PARTITION_EOF, m.error()
                        unread.discard(m.partition())
                        continue
                    found.append(
                        Read(
                            m.partition(),
                            m.offset(),
                            m.key(),
                            m.value(),
                            m.timestamp()[1],
                            m.headers() or [],
                        )
                    )
        finally:
            consumer.close()
        return sorted(found)

    def committed(self) -> int:
        """The group's committed offsets, added up."""
        return sum(self.commits().values())

    def commits(self) -> dict[int, int]:
        """The group's committed offset in each partition of the input."""
        consumer = Consumer({"bootstrap.servers": self.kafka.address, "group.id": self.name})
        try:
            places = [TopicPartition(self.input, p) for p in range(self.partitions)]
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    found = consumer.committed(places, timeout=10)
                    return {place.partition: max(0, place.offset) for place in found}
                except KafkaException:  # the group's coordinator is not up yet
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        finally:
            consumer.close()

    def ends(self) -> dict[int, int]:
        """The offset after the newest record in each partition of the input."""
        consumer = Consumer({"bootstrap.servers": self.kafka.address, "group.id": self.name})
        try:
            places = [TopicPartition(self.input, p) for p in range(self.partitions)]
            return {p.partition: consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}
        finally:
            consumer.close()

    def published(self) -> int:
        """Events in the cleaned and quarantined topics so far."""
        topics = [self.topic(Output.CLEANED), self.topic(Output.QUARANTINED)]
        consumer = Consumer({"bootstrap.servers": self.kafka.address, "group.id": self.name})
        try:
            places = [TopicPartition(t, p) for t in topics for p in range(self.partitions)]
            return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        finally:
            consumer.close()

    def await_published(self, events: int) -> None:
        """Until that many are there."""
        deadline = time.monotonic() + PATIENCE_S
        while (done := self.published()) < events:
            self._check_workers()
            assert time.monotonic() < deadline, f"only {done} of {events} published"
            time.sleep(0.02)

    def await_committed(self, records: int, patience_s: float = PATIENCE_S) -> None:
        """Until the group has committed that many records."""
        deadline = time.monotonic() + patience_s
        while (done := self.committed()) < records:
            self._check_workers()
            assert time.monotonic() < deadline, f"only {done} of {records} committed"
            time.sleep(0.2)

    def _check_workers(self) -> None:
        for worker in self.workers:
            assert worker.process.poll() is None, worker.said()


class Worker:
    """`shopsentry worker` as a process."""

    program: Sequence[str] = ("stream_app", "worker")  # the module that runs, and its arguments

    def __init__(self, rig: Rig, name: str = "worker", **settings: object) -> None:
        self._rig = rig
        self.log = rig.folder / f"{rig.name}-{name}.log"
        self.port = free_port()
        self._out = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.program],
            cwd=ROOT,
            env=rig.environment(web__port=self.port, **settings),
            stdout=self._out,
            stderr=self._out,
        )
        rig.workers.append(self)

    def await_ready(self) -> None:
        """Until it has partitions; from then on it also knows how to stop."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            with contextlib.suppress(urllib.error.URLError, TimeoutError):
                self.get("/health")  # 200: assigned and fine
                return
            time.sleep(0.1)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            text: bytes = answer.read()
        return text.decode()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and the seconds that it took."""
        began = time.monotonic()
        self._rig.workers.remove(self)
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        return code, time.monotonic() - began

    def kill(self) -> None:
        if self in self._rig.workers:
            self._rig.workers.remove(self)
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def kill_amid(self, events: int) -> None:
        """Once so many events are published. It stands still while they are counted: a count may
        take longer than all the rest of its work.
        """
        self._rig.await_published(self._rig.published() + 1)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self.process.poll() is None, self.said()
            self.process.send_signal(signal.SIGSTOP)
            if (done := self._rig.published()) >= events:
                return self.kill()
            assert time.monotonic() < deadline, f"only {done} of {events} published"
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._out.close()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def workers(rig: Rig, count: int = 1, **settings: object) -> Iterator[list[Worker]]:
    """Running workers of one group; killed at the end if the test has not stopped them."""
    running = [Worker(rig, f"worker-{n}", **settings) for n in range(count)]
    try:
        yield running
    finally:
        for worker in running:
            worker.close()


def headers_of(read: Read) -> dict[str, str]:
    return {name: value.decode() for name, value in read.headers}
