"""Alerts and campaigns, read from the outside: a group of its own, nothing committed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from msgspec import Struct

from stream_app.core.errors import Misconfigured, Unavailable
from stream_app.core.messages import AlertData, CampaignData
from stream_app.edges.ctrl_c import check

ANSWER_S: Final = 10.0
SETTLING: Final = (  # librdkafka does not call them retriable: it leaves that to us
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)
T = TypeVar("T")
POLL_S: Final = 0.2  # so that Ctrl-C is heard


class Alert(Struct, frozen=True):
    """An alert as consumers see it; unknown fields are left out."""

    id: str
    time: str  # event time, RFC 3339
    data: AlertData


class Campaign(Struct, frozen=True):
    """News of a campaign as consumers see them; unknown fields are left out."""

    id: str
    time: str  # event time of its last event, RFC 3339
    data: CampaignData


_alert = msgspec.json.Decoder(Alert)
_campaign = msgspec.json.Decoder(Campaign)


def follow(
    connection: Mapping[str, Any], topics: Sequence[str], since: str | int, user: str | None = None
) -> Iterator[tuple[bytes, Alert | Campaign | None]]:
    """Alerts and campaigns as they come, without end: the bytes, and what they say if we can read
    it; with `user` those that are about them.

    `connection` is librdkafka's configuration; `since` is `beginning`, `now` or epoch ms of their
    Kafka time. Raises Misconfigured: no such topic, no broker; Unavailable later on.
    """
    with reader(connection) as consumer:
        consumer.assign([place for topic in topics for place in _starts(consumer, topic, since)])
        while True:
            message = consumer.poll(POLL_S)
            check()
            if message is None or is_passing(message):
                continue
            value = message.value()
            if value is None:
                continue
            found = decoded(value) or campaign_of(value)
            if user is None or message.key() == user.encode() or _has(found, user):
                yield value, found


def decoded(value: bytes) -> Alert | None:
    """None if it is no alert of a shape that we know."""
    try:
        return _alert.decode(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def campaign_of(value: bytes) -> Campaign | None:
    """None if it is no campaign of a shape that we know."""
    try:
        return _campaign.decode(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _has(found: Alert | Campaign | None, user: str) -> bool:
    if not isinstance(found, Campaign):
        return False
    return any(member.user_id == user for member in found.data.members)


@contextmanager
def reader(connection: Mapping[str, Any], **more: Any) -> Iterator[Consumer]:
    """A consumer of committed records that never commits itself."""
    consumer = Consumer(
        {
            **connection,
            "group.id": f"shopsentry-reader-{uuid.uuid4()}",  # never used: we assign
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "max.poll.interval.ms": 86_400_000,  # a paced replay may pause a partition for long
            "log_level": 0,
            **more,
        }
    )
    try:
        yield consumer
    except KafkaException as error:
        raise Unavailable(f"Kafka did not answer: {error.args[0].str()}") from error
    finally:
        consumer.close()


def patiently(ask: Callable[[], T]) -> T:
    """What `ask` answers, once the brokers agree on who leads; new topics take a moment."""
    until = time.monotonic() + ANSWER_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in SETTLING or time.monotonic() > until:
                raise
            time.sleep(0.1)


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """Raises Misconfigured: no such topic, no broker."""
    try:
        found = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
    except KafkaException as error:
        raise Misconfigured(
            f"no Kafka answers within {ANSWER_S:g} s ({error.args[0].str()}); start it, or set "
            "kafka.bootstrap (SHOPSENTRY_KAFKA__BOOTSTRAP)"
        ) from error
    if found.error is not None or not found.partitions:
        raise Misconfigured(
            f"there is no topic {topic}; `shopsentry worker` makes its topics when it starts"
        )
    return sorted(found.partitions)


def is_passing(message: Message) -> bool:
    """Whether this is no record but a trouble that goes by itself. Raises Unavailable if not."""
    error = message.error()
    if error is None:
        return False
    passing = (KafkaError._PARTITION_EOF, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)
    if error.code() in passing or (error.retriable() and not error.fatal()):
        return True
    raise Unavailable(f"Kafka stopped answering: {error.str()}")


def _starts(consumer: Consumer, topic: str, since: str | int) -> list[TopicPartition]:
    places = partitions_of(consumer, topic)
    if isinstance(since, int):
        asked = [TopicPartition(topic, place, since) for place in places]
        return patiently(lambda: consumer.offsets_for_times(asked, timeout=ANSWER_S))
    offset = OFFSET_BEGINNING if since == "beginning" else OFFSET_END
    return [TopicPartition(topic, place, offset) for place in places]
