"""Whole workers by number, Redis servers and partitions: one run of one setting, from outside.

All groups of a setting read the same topic, as a topic's partitions cost the same whoever reads
them; each has outputs, a Redis and workers of its own. What counts begins once all workers are in
their groups and have worked for a while, and ends while all still have enough to do.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import Final

import psutil
import redis
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from msgspec import Struct

from scripts.benchmarks import events, scorers
from scripts.benchmarks.rig import LOOK_S, Rig, Variant, cpu_s, finals
from tests.servers import RedisServer

SETTLED_S: Final = 2.0  # from the last worker's joining to the first look
JOINED_S: Final = 60.0  # until all workers are in their groups
MOST: Final = 0.8  # of a backlog: from then on a worker may have no partition left to work on
TTL_S: Final = 90_000  # of the logs, as `RedisWindows` has it


class Setting(Struct, frozen=True):
    """What is run."""

    workers: int = 1
    servers: int = 1  # of Redis, each with a group and its share of workers and partitions
    partitions: int = events.PARTITIONS
    delivery: str = "at-least-once"

    @property
    def each(self) -> int:
        """Partitions of the topic that each group reads."""
        return self.partitions // self.servers


class Run(Struct, frozen=True, kw_only=True):
    """One run of a setting."""

    setting: Setting
    events: int  # in the stretch that was measured
    seconds: float
    worker_us: float  # CPU microseconds an event; all workers together
    redis_us: float
    broker_us: float
    machine_cores: float  # busy in the stretch, whatever with

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.worker_us + self.redis_us + self.broker_us

    def cores(self, us: float) -> float:
        """Cores busy with what takes so many microseconds an event."""
        return us * self.rate / 1e6


class _Look(Struct, frozen=True):
    at_s: float
    done: int
    foremost: int  # of one group
    spent_s: tuple[float, float, float, float]  # workers, Redis, broker, the whole machine


class Group(Struct, frozen=True):
    """Workers that share a topic, their outputs and their Redis."""

    name: str
    topics: list[str]
    workers: Sequence[psutil.Process]
    server: psutil.Process


def topic_of(partitions: int) -> str:
    return f"scale.{partitions}"


def write(address: str, partitions: int, count: int) -> int:
    """A backlog, in a process of its own."""
    return events.fill(address, topic_of(partitions), events.random_records(count), partitions)


def remember(url: str, partitions: int) -> None:
    """A full log for every user: that of one, copied."""
    encoder, topic = scorers.free_encoder(), topic_of(partitions)
    some = next(events.full_logs(encoder, topic))
    rows = some.rows[: events.HISTORY]
    events.remember(url, encoder, [some._replace(users=some.users[: len(rows)], rows=rows)])
    client = redis.Redis.from_url(url)
    (key,) = client.keys("*:w:*")
    log = client.get(key)
    assert isinstance(log, bytes)
    client.delete(key)
    users = map(events.user_name, range(events.USERS))
    while chunk := list(islice(users, 5000)):
        pipe = client.pipeline(transaction=False)
        for user in chunk:
            at = events.partition_of(user, partitions)
            pipe.set(f"{events.PREFIX}:{{{at}}}:w:{user}", log, ex=TTL_S)
        pipe.execute()


class Scale:
    """Runs settings on the servers of a rig."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def fill(self, counts: dict[int, int]) -> None:
        """Topics of so many partitions with so many records."""
        for partitions in counts:
            self._rig.kafka.create_topics([topic_of(partitions)], partitions=partitions)
        spawn, address = multiprocessing.get_context("spawn"), self._rig.kafka.address
        with ProcessPoolExecutor(min(len(counts), os.cpu_count() or 1), spawn) as pool:
            asked = [pool.submit(write, address, *item) for item in counts.items()]
            for done in asked:
                done.result()

    def run(self, setting: Setting, seconds: float) -> Run:
        with ExitStack() as stack:
            servers = [
                stack.enter_context(self._rig.redis(f"redis-{number}"))
                for number in range(setting.servers)
            ]
            for server in servers:
                remember(server.url, setting.each)
            groups = [self._started(stack, setting, server) for server in servers]
            self._await(groups)
            first, last = self._watch(setting, groups, seconds)
        for group in groups:
            self._rig.forget(group.topics)
        done, took_s = last.done - first.done, last.at_s - first.at_s
        spent_s = [
            after - before for before, after in zip(first.spent_s, last.spent_s, strict=True)
        ]
        worker_us, redis_us, broker_us = (s / done * 1e6 for s in spent_s[:3])
        return Run(
            setting=setting,
            events=done,
            seconds=took_s,
            worker_us=worker_us,
            redis_us=redis_us,
            broker_us=broker_us,
            machine_cores=spent_s[3] / took_s,
        )

    def _started(self, stack: ExitStack, setting: Setting, server: RedisServer) -> Group:
        name, topics = self._rig.outputs(partitions=setting.each)
        variant = Variant(
            "scale",
            "scripts.benchmarks.worker",
            "free",
            topic_of(setting.each),
            "",
            workers=setting.workers // setting.servers,
            delivery=setting.delivery,
            partitions=setting.each,
        )
        started = stack.enter_context(self._rig.workers(variant, name, server))
        assert server.pid is not None
        return Group(
            name, topics, [psutil.Process(one.pid) for one in started], psutil.Process(server.pid)
        )

    def _await(self, groups: Sequence[Group]) -> None:
        """Until all workers have partitions, and a little longer."""
        admin, began = self._rig.kafka.admin(), time.monotonic()
        for group in groups:
            while not _complete(admin, group):
                if time.monotonic() - began > JOINED_S:
                    raise RuntimeError(f"not all workers joined:\n{self._rig.log(group.name)}")
                time.sleep(LOOK_S)
        time.sleep(SETTLED_S)

    def _watch(
        self, setting: Setting, groups: Sequence[Group], seconds: float
    ) -> tuple[_Look, _Look]:
        """Two looks so far apart, or less if a group's backlog is about to end."""
        size = sum(self._rig.ends([topic_of(setting.each)], setting.each).values())
        first = last = self._look(setting, groups)
        while last.at_s - first.at_s < seconds:
            time.sleep(LOOK_S)
            look = self._look(setting, groups)
            if look.foremost > MOST * size:
                break
            last = look
        if last.at_s - first.at_s < seconds / 3:
            raise RuntimeError(f"the backlog ended after {last.done - first.done}: more --events")
        return first, last

    def _look(self, setting: Setting, groups: Sequence[Group]) -> _Look:
        done = [sum(self._rig.ends(finals(group.name), setting.each).values()) for group in groups]
        kafka = self._rig.kafka.pid
        assert kafka is not None
        whole = psutil.cpu_times()
        spent_s = (
            cpu_s([worker for group in groups for worker in group.workers]),
            cpu_s([group.server for group in groups]),
            cpu_s([psutil.Process(kafka)]),
            whole.user + whole.nice + whole.system + whole.irq + whole.softirq,
        )
        return _Look(time.monotonic(), sum(done), max(done), spent_s)


def _complete(admin: AdminClient, group: Group) -> bool:
    """Whether all its workers share its partitions."""
    try:
        told = admin.describe_consumer_groups([group.name])[group.name].result()
    except KafkaException:  # nobody has asked for this group yet
        return False
    return told.state == ConsumerGroupState.STABLE and len(told.members) == len(group.workers)
