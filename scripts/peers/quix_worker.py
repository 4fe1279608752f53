"""Quix Streams: its StreamingDataFrame ends in a sink, which takes all of a checkpoint at once.

Quix hands over a message at a time, and Redis would be a round trip for each. A sink is its own
place for batches: it is flushed before the offsets of a checkpoint are committed, so what was not
sent comes again.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer
from quixstreams import Application  # type: ignore[import-not-found]
from quixstreams.sinks import BaseSink  # type: ignore[import-not-found]

from scripts.peers.job import Job, Record, given

EVERY = 16_384  # messages in a checkpoint, all partitions together


class Judge(BaseSink):  # type: ignore[misc]
    """What was polled since the last checkpoint, through the job and out, confirmed.

    Leaner than Quix's BatchingSink, which makes an object a message and a batch a partition.
    """

    def __init__(self, job: Job, producer: Producer) -> None:
        super().__init__(on_client_connect_success=lambda: None)
        self._job, self._producer = job, producer
        self._records: list[Record] = []

    def add(
        self,
        value: bytes,
        key: bytes,
        timestamp: int,
        headers: Any,
        topic: str,
        partition: int,
        offset: int,
    ) -> None:
        self._records.append((key, value, offset))

    def flush(self) -> None:
        try:
            produce = self._producer.produce
            for topic, key, value, headers in self._job(self._records):
                produce(topic, value, key, headers=headers)
            if left := self._producer.flush(60):
                raise RuntimeError(f"Kafka did not take {left} messages")
        finally:
            self._records.clear()

    def on_paused(self) -> None:
        self._records.clear()


def main() -> None:
    told = given()
    app = Application(
        broker_address=told.kafka,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        commit_every=EVERY,
        auto_create_topics=False,
        state_dir=told.state,
        broker_availability_timeout=0,  # else asked twice a message
        loglevel="WARNING",
    )
    events = app.topic(told.topic, key_deserializer="bytes", value_deserializer="bytes")
    producer = Producer({"bootstrap.servers": told.kafka})
    app.dataframe(events).sink(Judge(told.job(), producer))
    app.run()


if __name__ == "__main__":
    main()
