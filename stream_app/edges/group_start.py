"""Where a new consumer group begins: at the end of its topics, if it is asked to.

The ends are committed before the first worker joins. They must be: a partition without a commit has
no place to go on from, and a worker that takes it over would begin at the end once more, past
records that the one before had read and not finished.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream_app.core.errors import Misconfigured

PATIENCE_S: Final = 10.0  # for each answer of Kafka
PAUSE_S: Final = 0.2
NOT_YET: Final = (  # a broker that has just begun, or a group that moves to another one
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)

log = logging.getLogger("shopsentry.kafka")


def start_at_the_end(
    connection: Mapping[str, Any], group: str, topics: Sequence[str]
) -> dict[tuple[str, int], int]:
    """Commit the ends of all partitions of the topics that the group has no offset of; returns
    those by topic and partition. `connection` is librdkafka's configuration.

    Of a topic that it has begun, it reads a partition without offset from its beginning: that one
    was added since. Nothing is committed while the group has members: they have begun, and what
    they have no offset of is read from its beginning. Raises Misconfigured.
    """
    consumer = Consumer(
        {**connection, "group.id": group, "enable.auto.commit": False, "log_level": 0}
    )
    try:
        return _insist(consumer, topics)
    except KafkaException as raised:
        error = raised.args[0]
        if error.code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS):
            log.info("the group %s has members: they have chosen where it begins", group)
            return {}
        raise Misconfigured(
            f"where the group {group} begins (kafka.auto_offset_reset = latest) could not be noted "
            f"in Kafka: {error.str()}. The user needs Read on that group and on the input topics."
        ) from raised
    finally:
        consumer.close()


def _insist(consumer: Consumer, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Commit the ends as soon as Kafka knows who looks after the group."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _commit_ends(consumer, topics)
        except KafkaException as raised:
            if raised.args[0].code() not in NOT_YET or time.monotonic() > until:
                raise
            time.sleep(PAUSE_S)


def _commit_ends(consumer: Consumer, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    new: list[TopicPartition] = []
    for topic in topics:
        numbers = sorted(consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions)
        places = consumer.committed([TopicPartition(topic, n) for n in numbers], PATIENCE_S)
        if all(place.offset < 0 for place in places):
            new += places
    ends = {}
    for place in new:
        _first, place.offset = consumer.get_watermark_offsets(place, PATIENCE_S)
        ends[(place.topic, place.partition)] = place.offset
    if new:
        for place in consumer.commit(offsets=new, asynchronous=False) or ():
            if place.error is not None:
                raise KafkaException(place.error)
    return ends
