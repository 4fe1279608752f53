"""Reads what comes out of the worker from the topics themselves, and tells the tally."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from stream_app.core.outcome import Output
from stream_app.demo.background import Background
from stream_app.demo.tally import Tally
from stream_app.edges.alert_feed import campaign_of, decoded, is_passing, reader
from stream_app.edges.embedded import PARTITIONS

WATCHED = (
    Output.CLEANED,
    Output.QUARANTINED,
    Output.ALERTS,
    Output.DEAD_LETTERS,
    Output.CAMPAIGNS,
)
BATCH = 500


class _Named(msgspec.Struct):
    event_id: str | None = None


_named = msgspec.json.Decoder(_Named)


class Watch(Background):
    """Consumes the outputs from their beginning."""

    name = "watch"

    def __init__(self, bootstrap: str, topics: Mapping[Output, str], tally: Tally) -> None:
        super().__init__()
        self.counts_from_ms: float | None = None  # epoch: latency is that of records sent later
        self._connection = {"bootstrap.servers": bootstrap}
        self._topics = {topics[output]: output for output in WATCHED}
        self._tally = tally
        self._began_s = time.monotonic()

    def run(self) -> None:
        # The embedded broker answers an empty fetch only when this wait is over.
        with reader(self._connection, **{"fetch.wait.max.ms": 20}) as consumer:
            consumer.assign(_beginnings(self._topics))
            while not self.stopping.is_set():
                for message in consumer.consume(BATCH, timeout=0.05):
                    if not is_passing(message):
                        self._take(message)

    def _take(self, message: Message) -> None:
        output = self._topics[message.topic() or ""]
        value = message.value() or b""
        match output:
            case Output.ALERTS:
                alert = decoded(value)
                at_s = time.monotonic() - self._began_s
                took_s = self._latency_s(message.timestamp()[1])
                self._tally.alert(alert.data if alert else None, at_s, took_s)
            case Output.CAMPAIGNS:
                if (campaign := campaign_of(value)) is not None:
                    self._tally.gather(campaign.data)
            case Output.DEAD_LETTERS:
                headers = dict(message.headers() or ())
                reason = headers.get("reason") or b"?"
                told = reason.decode() if isinstance(reason, bytes) else reason
                self._tally.bury(told, _event_id(value))
            case _:
                self._tally.decide(output, _event_id(value))

    def _latency_s(self, sent_ms: int) -> float | None:
        """Outputs carry the Kafka time of their input."""
        if self.counts_from_ms is None or sent_ms < self.counts_from_ms:
            return None
        return max(0.0, time.time() - sent_ms / 1000)


def records_in(bootstrap: str, topic: str) -> int:
    """How many records a topic has taken."""
    with reader({"bootstrap.servers": bootstrap}) as consumer:
        return sum(_end(consumer, place) for place in _beginnings([topic]))


def _end(consumer: Consumer, place: TopicPartition) -> int:
    return int(consumer.get_watermark_offsets(place, timeout=5)[1])


def _beginnings(topics: Iterable[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, place, 0) for topic in topics for place in range(PARTITIONS)]


def _event_id(value: bytes) -> str | None:
    try:
        return _named.decode(value).event_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
