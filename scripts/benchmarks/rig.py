"""Servers, workers and the clock: one run of one variant, looked at from outside.

A rate is the growth of the output topics between two looks, after a warm-up and before the backlog
runs out; the CPU seconds of worker, Redis and broker are of the same stretch. What a worker says of
itself does not count.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psutil
import redis
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]
from msgspec import Struct

from scripts.benchmarks import events
from stream_app.core.outcome import Output
from stream_app.edges.embedded import LOOPBACK, free_port
from tests.servers import ROOT, KafkaBroker, RedisServer

FINAL = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS)  # one of them for each record
LOOK_S = 0.1
PATIENCE_S = 120.0  # without any output


class Variant(Struct, frozen=True):
    """What is run."""

    name: str
    module: str  # python -m
    scorer: str  # free or model
    topic: str
    history: str  # folder of the Redis whose logs it starts from
    workers: int = 1
    delivery: str = "at-least-once"
    schema: str = "shop"  # of the free scorer
    python: Path = Path(sys.executable)
    windows: str = "strings"  # of the peers
    partitions: int = events.PARTITIONS  # of its topic and its outputs


class Run(Struct, frozen=True, kw_only=True):
    """One run of a variant."""

    variant: str
    events: int  # in the stretch that was measured
    outcomes: dict[str, int]  # from the beginning to its end
    seconds: float
    worker_us: float  # CPU microseconds an event; all workers together
    redis_us: float
    broker_us: float
    worker_mib: float  # resident memory at the end; all workers together
    load: float  # of the machine, one minute, at the end
    stages_us: dict[str, float] = {}

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU microseconds an event of worker, Redis and broker."""
        return self.worker_us + self.redis_us + self.broker_us


class _Look(Struct, frozen=True):
    """The counters at one moment."""

    at_s: float
    done: int
    outcomes: dict[str, int]
    worker_s: float
    redis_s: float
    broker_s: float
    worker_bytes: int


class CompilingBroker(KafkaBroker):
    """With the JVM's full compiler, as in operation: tests leave it out to start sooner."""

    def _prepare(self) -> list[str]:
        return [word for word in super()._prepare() if "TieredStopAtLevel" not in word]


class Rig:
    """A broker with the backlog, and Redis servers with remembered logs."""

    def __init__(
        self, folder: Path, bundle: Path, broker: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`bundle`: the model of the variants that have one; `broker`: its settings."""
        self._folder, self._bundle, self._broker = folder, bundle, broker
        self._numbers = itertools.count(1)
        self.scores: dict[Variant, dict[bytes, float]] = {}  # of the newest run, by value
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.kafka = self._stack.enter_context(
            CompilingBroker(self._folder / "kafka", self._broker)
        )
        self._admin = self.kafka.admin()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(self, topic: str, records: Iterable[tuple[str, bytes]]) -> int:
        """Make a topic of these users and values; returns its size."""
        self.kafka.create_topics([topic], partitions=events.PARTITIONS)
        return events.fill(self.kafka.address, topic, records)

    @contextmanager
    def redis(self, history: str) -> Iterator[RedisServer]:
        """A Redis as it was when `save` was called in it, or an empty one."""
        with RedisServer(self._folder / history) as server:
            client = redis.Redis.from_url(server.url)
            while client.info("persistence")["loading"]:
                time.sleep(0.05)
            yield server

    def outputs(
        self,
        config: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        partitions: int = events.PARTITIONS,
    ) -> tuple[str, list[str]]:
        """A name for a run, and new output topics that begin with it.

        `config` of topics by what comes after the name; others than outputs are made as well.
        """
        name = f"r{next(self._numbers)}"
        kinds = list(dict.fromkeys([*Output, *config]))
        for kind in kinds:
            self.kafka.create_topics(
                [f"{name}.{kind}"], partitions=partitions, config=config.get(kind)
            )
        return name, [f"{name}.{kind}" for kind in kinds]

    def log(self, name: str) -> str:
        """What the workers of a run said last."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def forget(self, topics: list[str]) -> None:
        self._admin.delete_topics(topics)

    @contextmanager
    def workers(
        self, variant: Variant, name: str, server: RedisServer, *more: str
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Those of a variant, from its topic to the outputs of `name`."""
        command = [str(variant.python), "-m", variant.module, "--kafka", self.kafka.address]
        command += ["--redis", server.url, "--topic", variant.topic, "--prefix", f"{name}."]
        command += ["--group", name, "--scorer", variant.scorer]
        command += ["--bundle", str(self._bundle)]
        if variant.module.startswith("scripts.benchmarks"):
            command += ["--partitions", str(variant.partitions)]
            command += ["--delivery", variant.delivery, "--schema", variant.schema]
        own: list[list[str]] = [[] for _ in range(variant.workers)]
        if variant.module.startswith("scripts.peers"):
            command += ["--state", str(self._folder / f"{name}.state")]
            command += ["--windows", variant.windows]
            command += ["--addresses", ";".join(f"{LOOPBACK}:{free_port()}" for _ in own)]
            own = [["--number", str(number)] for number in range(variant.workers)]
        with ExitStack() as stack:
            log = stack.enter_context((self._folder / f"{name}.log").open("wb"))
            yield [stack.enter_context(_process([*command, *one, *more], log)) for one in own]

    def run(self, variant: Variant, warm: int, measured: int, *, stages: bool = False) -> Run:
        """Start it on the whole backlog, look at `measured` events after `warm`, end it."""
        name, topics = self.outputs()
        told = self._folder / f"{name}.stages"
        with self.redis(variant.history) as server, ExitStack() as stack:
            more = ("--stages", str(told)) if stages else ()
            workers = stack.enter_context(self.workers(variant, name, server, *more))
            first, last = self._watch(name, workers, server, warm, measured, stages)
        if variant.scorer == "model":
            self.scores[variant] = self._read_scores(topics[:2], last)
        self.forget(topics)
        done = last.done - first.done

        def per_event(before: float, after: float) -> float:
            return (after - before) / done * 1e6

        return Run(
            variant=variant.name,
            events=done,
            outcomes=last.outcomes,
            seconds=last.at_s - first.at_s,
            worker_us=per_event(first.worker_s, last.worker_s),
            redis_us=per_event(first.redis_s, last.redis_s),
            broker_us=per_event(first.broker_s, last.broker_s),
            worker_mib=last.worker_bytes / (1 << 20),
            load=os.getloadavg()[0],
            stages_us=_stages(told, done) if stages else {},
        )

    def outcomes(self, variant: Variant, count: int) -> Counter[tuple[bytes, str]]:
        """What becomes of the `count` records of its topic: value and output, how often."""
        name, topics = self.outputs()
        with self.redis(variant.history) as server, self.workers(variant, name, server) as workers:
            self._watch(name, workers, server, 0, count, False)
        found: Counter[tuple[bytes, str]] = Counter()
        for record in self._read(finals(name), count):
            found[record.value() or b"", str(record.topic()).partition(".")[2]] += 1
        self.forget(topics)
        return found

    def _watch(
        self,
        name: str,
        workers: Sequence[subprocess.Popen[bytes]],
        server: RedisServer,
        warm: int,
        measured: int,
        stages: bool,
    ) -> tuple[_Look, _Look]:
        watched = [[psutil.Process(worker.pid) for worker in workers]]
        watched += [[psutil.Process(pid)] for pid in (server.pid, self.kafka.pid)]
        first: _Look | None = None
        grew_s, before = time.monotonic(), 0
        while True:
            outcomes = self._outcomes(name)
            done = sum(outcomes.values())
            worker_s, redis_s, broker_s = (cpu_s(some) for some in watched)
            memory = sum(process.memory_info().rss for process in watched[0])
            look = _Look(time.monotonic(), done, outcomes, worker_s, redis_s, broker_s, memory)
            if first is None and done >= warm:
                first = look
                _signal(workers, stages)
            if first is not None and first is not look and done >= warm + measured:
                _signal(workers, stages)
                return first, look
            if done > before:
                grew_s, before = look.at_s, done
            if look.at_s - grew_s > PATIENCE_S or any(w.poll() is not None for w in workers):
                raise RuntimeError(f"it stopped after {done} events:\n{self.log(name)}")
            time.sleep(LOOK_S)

    def ends(
        self, topics: Iterable[str], partitions: int = events.PARTITIONS
    ) -> dict[tuple[str, int], int]:
        """Committed records by topic and partition; the end of a transaction counts too, one in
        some thousand.
        """
        asked = {
            TopicPartition(topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for topic in topics
            for partition in range(partitions)
        }
        found: dict[tuple[str, int], int] = {}
        for place, answer in self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED
        ).items():
            with suppress(KafkaException):  # a topic so new that the client asks in the wrong place
                found[place.topic, place.partition] = answer.result().offset
        return found

    def _outcomes(self, name: str) -> dict[str, int]:
        """Records by the output topic they are in."""
        found: Counter[str] = Counter()
        for (topic, _), count in self.ends(finals(name)).items():
            found[topic.partition(".")[2]] += count
        return dict(found)

    def _read_scores(self, topics: list[str], last: _Look) -> dict[bytes, float]:
        """Scores of what is in these topics, by value; most of it."""
        found: dict[bytes, float] = {}
        for record in self._read(
            topics, last.outcomes[Output.CLEANED] + last.outcomes[Output.QUARANTINED]
        ):
            told: list[tuple[str, Any]] = list(record.headers() or [])  # type: ignore[arg-type]
            score = [v for k, v in told if k.endswith("score")]
            found[record.value() or b""] = float(score[0])
        return found

    def _read(self, topics: list[str], wanted: int) -> Iterator[Message]:
        """So many records of these topics; fewer if no more come."""
        names = {"bootstrap.servers": self.kafka.address, "group.id": "bench.reader"}
        consumer = Consumer({**names, "auto.offset.reset": "earliest"})
        consumer.subscribe(topics)
        try:
            while wanted > 0 and (records := consumer.consume(wanted, timeout=10.0)):
                yield from records
                wanted -= len(records)
        finally:
            consumer.close()


def finals(name: str) -> list[str]:
    """The topics in one of which each record of the run `name` ends."""
    return [f"{name}.{output}" for output in FINAL]


def save(server: RedisServer) -> None:
    """Whoever starts in this server's folder next begins with what it holds now."""
    redis.Redis.from_url(server.url, socket_timeout=120).save()


@contextmanager
def _process(command: Sequence[str], log: object) -> Iterator[subprocess.Popen[bytes]]:
    rest = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSENTRY_")}
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=rest)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()  # nothing of this run is used again
        process.wait()


def _signal(workers: Sequence[subprocess.Popen[bytes]], stages: bool) -> None:
    if stages:
        for worker in workers:
            worker.send_signal(signal.SIGHUP)
        time.sleep(LOOK_S)


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of all of them since each began."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _stages(told: Path, done: int) -> dict[str, float]:
    """CPU microseconds an event, by stage, and by thread for what is in no stage."""
    first, last = (json.loads(line) for line in told.read_text().splitlines())

    def spent(kind: str) -> dict[str, float]:
        return {
            name: (after - first[kind].get(name, 0.0)) / done * 1e6
            for name, after in last[kind].items()
        }

    stages, threads = spent("stages"), spent("threads")
    off_main = stages.get("redis call", 0.0)
    found = dict(stages)
    found["main thread, rest"] = threads.pop("main") - (sum(stages.values()) - off_main)
    found["redis threads, rest"] = threads.pop("redis", 0.0) - off_main
    return found | {f"{name} thread": us for name, us in threads.items()}
