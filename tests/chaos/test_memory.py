"""What a Redis that lost its data explains, and what not.

offset  0 ........ 10 ........ 20 ........ 30
        committed  | being lost | as if nothing came before
"""

from __future__ import annotations

import json

import pytest

from scripts.benchmarks.events import BEGIN_MS
from scripts.chaos.memory import unexplained
from scripts.chaos.runs import RULES
from scripts.chaos.stage import Lapse
from stream_app.core.outcome import Output
from stream_app.core.record import StoredRecord

LAPSE = Lapse({0: 10}, {0: 20})
LATE_MS = 20 * 60 * 1000


def record(offset: int, number: int, behind_ms: int = 0) -> StoredRecord:
    event: dict[str, object] = {"event_id": f"e{number}", "user_id": "u", "type": "click"}
    event |= {"event_time": BEGIN_MS - behind_ms, "item_id": "i"}
    value = json.dumps(event).encode()
    return StoredRecord(
        topic="in", partition=0, offset=offset, timestamp=BEGIN_MS, key=b"u", value=value
    )


def topic(**changed: StoredRecord) -> list[StoredRecord]:
    """Thirty events of a user, some of them `changed`: at14=... is the one at offset 14."""
    return [changed.get(f"at{offset}", record(offset, offset)) for offset in range(30)]


def told(inputs: list[StoredRecord], passed: list[StoredRecord], *lapses: Lapse) -> list[str]:
    found = unexplained(inputs, {Output.CLEANED: passed}, RULES, lapses)
    return [f"{one.kind} {one.place}" for one in found]


@pytest.mark.parametrize(
    ("first", "again", "explained"),
    [
        (2, 8, False),  # both before
        (2, 14, True),
        (12, 18, True),
        (5, 25, True),
        (19, 21, True),
        (21, 28, False),  # both after
    ],
)
def test_an_event_passes_twice_only_over_a_loss(first: int, again: int, explained: bool) -> None:
    inputs = topic(**{f"at{again}": record(again, first)})
    assert (told(inputs, inputs, LAPSE) == []) == explained
    assert told(inputs, inputs) == [f"undue in-0@{again}"]
    without = [r for r in inputs if r.offset != again]
    assert told(inputs, without, LAPSE) == []


@pytest.mark.parametrize(("at", "explained"), [(9, False), (15, True), (20, True), (22, False)])
def test_a_late_event_passes_only_where_what_came_before_was_lost(at: int, explained: bool) -> None:
    inputs = topic(**{f"at{at}": record(at, at, LATE_MS)})
    assert (told(inputs, inputs, LAPSE) == []) == explained


def test_an_event_in_time_is_not_late_for_a_loss() -> None:
    inputs = topic()
    letter = {
        "reason": b"late",
        "kafka_dlt-original-partition": b"0",
        "kafka_dlt-original-offset": b"14",
    }
    buried = record(0, 14)
    dead = StoredRecord(
        topic="dead",
        partition=0,
        offset=0,
        timestamp=BEGIN_MS,
        key=buried.key,
        value=buried.value,
        headers=tuple(letter.items()),
    )
    found = unexplained(inputs, {Output.DEAD_LETTERS: [dead]}, RULES, [LAPSE])
    assert [one.detail for one in found] == ["late, though nothing says so"]
