"""Workers in exactly-once delivery on a real Kafka, stopped in the midst of their transactions.

Each holds its transactions open for a while with their outputs written (see `worker`), so that what
ends a worker ends it inside one.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream_app.core.outcome import Output
from tests.builders import POISON, click
from tests.servers import Kafka
from tests.transport.test_broker import BACKLOG, PATIENCE_S, Group
from tests.transport.worker import PARTITIONS, SESSION_S

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def group(kafka: Kafka, tmp_path: Path) -> Iterator[Group]:
    with contextlib.closing(Group(kafka, tmp_path, "exactly-once")) as made:
        made.send(BACKLOG)
        yield made


def check(group: Group, spoilt: int = 0) -> None:
    """Every record has one output that readers of committed records see, in order, and all of the
    input is committed, so many `spoilt` records too.
    """
    group.read_all()
    while group.read(0.5):
        pass
    numbers = Counter(n for _, n, _ in group.seen)
    assert [n for n, times in numbers.items() if times > 1] == []
    assert set(numbers) == set(range(group.produced))
    for partition in range(PARTITIONS):
        order = [n for p, n, _ in group.seen if p == partition]
        assert order == sorted(order)
    deadline = time.monotonic() + PATIENCE_S
    while committed(group) < group.produced + spoilt:
        assert time.monotonic() < deadline, committed(group)
        time.sleep(0.2)
    assert committed(group) == group.produced + spoilt


def committed(group: Group) -> int:
    reader = Consumer({"bootstrap.servers": group.kafka.address, "group.id": group.name})
    try:
        places = [TopicPartition(group.input, p) for p in range(PARTITIONS)]
        return sum(max(0, p.offset) for p in reader.committed(places, timeout=10))
    finally:
        reader.close()


def spoil(group: Group, count: int) -> None:
    """So many records on which the scorer fails, and as many that are no events."""
    producer = Producer({"bootstrap.servers": group.kafka.address})
    for number in range(count):
        poison = click(f"u{number}", at_ms=number, score=POISON, event_id=f"poison-{number}")
        for value in (msgspec.json.encode(poison), b"junk %d" % number):
            producer.produce(group.input, value, partition=number % PARTITIONS)
    assert producer.flush(30) == 0


def buried(group: Group) -> Counter[tuple[str, str]]:
    """Dead letters that readers of committed records see, by reason and place of origin."""
    reader = Consumer(
        {
            "bootstrap.servers": group.kafka.address,
            "group.id": f"{group.name}.dead",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    topic = f"{group.prefix}{Output.DEAD_LETTERS}"
    found: Counter[tuple[str, str]] = Counter()
    try:
        reader.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        while got := reader.consume(5000, 1.0):
            for letter in got:
                headers: list[Any] = list(letter.headers() or ())
                told = {name: value.decode() for name, value in headers}
                origin = [told[f"kafka_dlt-original-{of}"] for of in ("partition", "offset")]
                found[told["reason"], "-".join(origin)] += 1
    finally:
        reader.close()
    return found


def aborted(group: Group) -> int:
    """Records in the log of the outputs that readers of committed records never see."""
    reader = Consumer(
        {
            "bootstrap.servers": group.kafka.address,
            "group.id": f"{group.name}.all",
            "isolation.level": "read_uncommitted",
            "enable.auto.commit": False,
        }
    )
    try:
        reader.assign([TopicPartition(group.cleaned, p, 0) for p in range(PARTITIONS)])
        found = 0
        while got := reader.consume(5000, 1.0):
            found += len(got)
        return found - len(group.seen)
    finally:
        reader.close()


def open_transactions(group: Group) -> list[int]:
    """Partitions of the outputs whose readers wait for the end of one."""
    ends = []
    for isolation in ("read_committed", "read_uncommitted"):
        settings = {"group.id": f"{group.name}.ends", "isolation.level": isolation}
        reader = Consumer({"bootstrap.servers": group.kafka.address, **settings})
        try:
            places = [TopicPartition(group.cleaned, p) for p in range(PARTITIONS)]
            ends.append([reader.get_watermark_offsets(place, timeout=10)[1] for place in places])
        finally:
            reader.close()
    return [p for p in range(PARTITIONS) if ends[0][p] < ends[1][p]]


def stop(group: Group, name: str) -> None:
    group.workers[name].send_signal(signal.SIGTERM)
    assert group.workers[name].wait(20) == 0, said(group, name)


def said(group: Group, name: str) -> str:
    return (group.folder / f"{name}.log").read_text()


def test_workers_that_join_and_stop_leave_no_transaction_and_nothing_twice(group: Group) -> None:
    group.start("first")
    group.read_until(300, by="first")
    group.start("second")
    group.read_until(300, by="second")
    group.send(BACKLOG)
    stop(group, "first")
    group.read_until(600, by="second")
    stop(group, "second")
    assert not open_transactions(group)
    group.start("third")
    check(group)
    stop(group, "third")
    assert aborted(group) == 0, "a stop lets its transactions end"


def test_a_worker_killed_inside_transactions_loses_nothing_and_repeats_nothing(
    group: Group,
) -> None:
    for turn in range(2):
        killed = f"killed-{turn}"
        group.start(killed)
        group.read_until(100, by=killed)
        group.workers[killed].kill()
        group.workers[killed].wait()
    group.start("last")
    check(group)
    assert aborted(group) > 0, "no kill hit a transaction: the test shows nothing"


def test_a_zombie_that_wakes_up_changes_nothing(group: Group) -> None:
    group.start("zombie")
    group.read_until(300, by="zombie")
    group.send(BACKLOG)
    group.workers["zombie"].send_signal(signal.SIGSTOP)
    assert open_transactions(group), "the zombie was not in the midst of one"
    group.start("heir")
    group.read_until(300, by="heir")  # after the session of the zombie has run out
    group.send(BACKLOG)
    group.workers["zombie"].send_signal(signal.SIGCONT)
    time.sleep(SESSION_S / 2)
    group.send(400)
    check(group)
    assert group.workers["zombie"].poll() is None, said(group, "zombie")
    stop(group, "zombie")
    stop(group, "heir")


def test_poison_is_buried_inside_its_transaction_and_does_not_come_again(group: Group) -> None:
    spoil(group, 100)
    group.send(400)
    group.start("killed")
    group.read_until(200, by="killed")
    group.workers["killed"].kill()
    group.start("last")
    check(group, spoilt=200)
    letters = buried(group)
    assert set(letters.values()) == {1}
    assert Counter(reason for reason, _ in letters) == {"poison": 100, "not-json": 100}
    stop(group, "last")
