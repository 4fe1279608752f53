"""A new group that begins at the end begins there once, and for all of its partitions."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place

import stream_app.edges.group_start
from stream_app.core.errors import Misconfigured
from stream_app.edges.group_start import start_at_the_end
from tests.servers import Kafka


def fill(kafka: Kafka, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.address})
    for n in range(count):
        producer.produce(topic, b"x", partition=n % 2)
    assert producer.flush(20) == 0


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = f"start-{uuid.uuid4().hex[:8]}"
    kafka.create_topics([name], partitions=3)
    fill(kafka, name, 4)
    return name


def test_the_ends_are_committed_once_and_stay(kafka: Kafka, topic: str) -> None:
    connection, group = {"bootstrap.servers": kafka.address}, uuid.uuid4().hex
    ends = start_at_the_end(connection, group, [topic])
    assert ends == {(topic, n): end for n, end in enumerate([2, 2, 0])}
    fill(kafka, topic, 4)
    assert start_at_the_end(connection, group, [topic]) == {}
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": group})
    found = consumer.committed([Place(topic, n) for n in range(3)], timeout=10)
    consumer.close()
    assert [place.offset for place in found] == [2, 2, 0]


def test_a_partition_that_was_added_while_no_worker_ran_is_read_from_its_beginning(
    kafka: Kafka, topic: str
) -> None:
    group = uuid.uuid4().hex
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": group})
    consumer.commit(offsets=[Place(topic, 0, 1)], asynchronous=False)
    another = f"{topic}-too"
    kafka.create_topics([another], partitions=2)
    fill(kafka, another, 2)
    ends = start_at_the_end({"bootstrap.servers": kafka.address}, group, [topic, another])
    assert ends == {(another, 0): 1, (another, 1): 1}
    found = consumer.committed([Place(topic, n) for n in range(3)], timeout=10)
    consumer.close()
    assert [place.offset < 0 for place in found] == [False, True, True]


def test_a_group_with_members_is_left_alone(kafka: Kafka, topic: str) -> None:
    group = uuid.uuid4().hex
    member = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": group, "enable.auto.commit": False}
    )
    member.subscribe([topic])
    while not member.assignment():
        member.poll(0.1)
    assert start_at_the_end({"bootstrap.servers": kafka.address}, group, [topic]) == {}
    found = member.committed([Place(topic, 0)], timeout=10)
    member.close()
    assert found[0].offset < 0


def test_what_cannot_be_noted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_app.edges.group_start, "PATIENCE_S", 0.3)
    with pytest.raises(Misconfigured, match="needs Read"):
        start_at_the_end({"bootstrap.servers": "127.0.0.1:1"}, "g", ["shop.events"])
