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

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.servers import Kafka
from tests.transport.test_broker import BACKLOG, Group
from tests.transport.worker import PARTITIONS, SESSION_S

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def group(kafka: Kafka, tmp_path: Path) -> Iterator[Group]:
    with contextlib.closing(Group(kafka, tmp_path, "exactly-once")) as made:
        made.send(BACKLOG)
        yield made


def check(group: Group) -> None:
    """Every record has one output that readers of committed records see, in order, and all of the
    input is committed.
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
    assert committed(group) == group.produced


def committed(group: Group) -> int:
    reader = Consumer({"bootstrap.servers": group.kafka.address, "group.id": group.name})
    try:
        places = [TopicPartition(group.input, p) for p in range(PARTITIONS)]
        return sum(max(0, p.offset) for p in reader.committed(places, timeout=10))
    finally:
        reader.close()


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
