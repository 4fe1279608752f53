"""Bytewax: an item is a batch of records, from a source and to a sink of our own.

Its own KafkaSource makes an object of eight fields a record and its KafkaSink takes one a message,
which together cost 2 us an event more. Offsets are kept as Bytewax keeps them, in its recovery
store; the sink returns once Kafka has confirmed, so what was not sent comes again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import bytewax.operators as op  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.inputs import (  # type: ignore[import-not-found]
    FixedPartitionedSource,
    StatefulSourcePartition,
)
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # type: ignore[import-not-found]
from bytewax.recovery import RecoveryConfig, init_db_dir  # type: ignore[import-not-found]
from bytewax.run import cli_main  # type: ignore[import-not-found]
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from scripts.peers.job import Given, Message, Record, given

BATCH = 8192  # records at most
SNAPSHOT = timedelta(seconds=1)  # Bytewax's own default is 10


class Partition(StatefulSourcePartition):  # type: ignore[misc]
    """Batches of one partition, from an offset on."""

    def __init__(self, kafka: str, topic: str, partition: int, resumed: int | None) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False}
        )
        self._offset = OFFSET_BEGINNING if resumed is None else resumed
        self._consumer.assign([TopicPartition(topic, partition, self._offset)])

    def next_batch(self) -> list[list[Record]]:
        records: list[Record] = []
        for message in self._consumer.consume(BATCH, 0.001):
            if error := message.error():
                raise RuntimeError(error)
            records.append((message.key(), message.value(), message.offset()))  # type: ignore[arg-type]
        if not records:
            return []
        self._offset = records[-1][2] + 1
        return [records]

    def snapshot(self) -> int:
        return self._offset

    def close(self) -> None:
        self._consumer.close()


class Source(FixedPartitionedSource):  # type: ignore[misc]
    def __init__(self, kafka: str, topic: str) -> None:
        self._kafka, self._topic = kafka, topic

    def list_parts(self) -> list[str]:
        asked = AdminClient({"bootstrap.servers": self._kafka}).list_topics(self._topic)
        return [str(partition) for partition in asked.topics[self._topic].partitions]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Partition:
        return Partition(self._kafka, self._topic, int(for_part), resume_state)


class Sender(StatelessSinkPartition):  # type: ignore[misc]
    """Sends, and waits until all is confirmed."""

    def __init__(self, kafka: str) -> None:
        self._producer = Producer({"bootstrap.servers": kafka})

    def write_batch(self, items: Sequence[Sequence[Message]]) -> None:
        produce = self._producer.produce
        for messages in items:
            for topic, key, value, headers in messages:
                produce(topic, value, key, headers=headers)
        if left := self._producer.flush(60):
            raise RuntimeError(f"Kafka did not take {left} messages")


class Sink(DynamicSink):  # type: ignore[misc]
    def __init__(self, kafka: str) -> None:
        self._kafka = kafka

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Sender:
        return Sender(self._kafka)


def recovery(told: Given) -> RecoveryConfig:
    """The store, which the first worker makes."""
    ready = told.state / "ready"
    if told.number == 0 and not ready.exists():
        told.state.mkdir()
        init_db_dir(told.state, len(told.addresses.split(";")))
        ready.touch()
    while not ready.exists():
        time.sleep(0.02)
    return RecoveryConfig(told.state)


def main() -> None:
    told = given()
    flow = Dataflow("windows")
    batches = op.input("records", flow, Source(told.kafka, told.topic))
    op.output("messages", op.map("job", batches, told.job()), Sink(told.kafka))
    alone = ";" not in told.addresses
    cli_main(
        flow,
        process_id=None if alone else told.number,
        addresses=None if alone else told.addresses.split(";"),
        epoch_interval=SNAPSHOT,
        recovery_config=recovery(told),
    )


if __name__ == "__main__":
    main()
