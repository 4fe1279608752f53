"""What an audit needs from Kafka: the input, all outputs, and how far the group has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from msgspec import Struct

from stream_app.core.outcome import Output
from stream_app.core.record import Record
from stream_app.edges.alert_feed import ANSWER_S, partitions_of, patiently, reader
from stream_app.edges.replaying import Range, bounds, edges, records


class Gathered(Struct, frozen=True):
    """Committed records alone, of a moment at which the group had committed `ranges`."""

    inputs: Sequence[Record]  # the whole topic, ascending by offset within a partition
    outputs: Mapping[Output, Sequence[Record]]
    ranges: Mapping[int, range]  # to judge, by partition
    begins: bool  # whether no older input was deleted
    waiting: int  # records of the range that the group has not committed yet


def gather(
    connection: Mapping[str, Any], group: str, chosen: Range, topics: Mapping[Output, str]
) -> Gathered:
    """Read everything once. Raises Misconfigured, Unavailable.

    The order matters: what is committed has its outputs, and every output has its input.
    """
    ranges, waiting, begins = _ranges(connection, group, chosen)
    outputs = {
        output: _all(connection, Range(topic=topics[output]))
        for output in (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS, Output.ALERTS)
    }
    inputs = _all(connection, Range(topic=chosen.topic))
    return Gathered(inputs, outputs, ranges, begins, waiting)


def _all(connection: Mapping[str, Any], chosen: Range) -> list[Record]:
    found: Iterable[Record] = records(connection, chosen)
    return list(found)


def _ranges(
    connection: Mapping[str, Any], group: str, chosen: Range
) -> tuple[dict[int, range], int, bool]:
    ranges, waiting, begins = {}, 0, True
    with reader(connection) as consumer:
        places = partitions_of(consumer, chosen.topic)
        done = _committed(connection, group, chosen.topic, places)
        for place in chosen.partitions or places:
            begin, end = bounds(consumer, chosen, place)
            upto = min(end, done[place])
            ranges[place] = range(begin, max(begin, upto))
            waiting += end - max(begin, upto)
        for place in places:
            begins = begins and edges(consumer, chosen.topic, place)[0] == 0
    return ranges, waiting, begins


def _committed(
    connection: Mapping[str, Any], group: str, topic: str, places: Sequence[int]
) -> dict[int, int]:
    asked = [TopicPartition(topic, place) for place in places]
    consumer = Consumer({**connection, "group.id": group, "log_level": 0})
    try:
        found = patiently(lambda: consumer.committed(asked, timeout=ANSWER_S))
    finally:
        consumer.close()
    return {one.partition: max(0, one.offset) for one in found}
