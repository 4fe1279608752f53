"""What is read again of a topic."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

from stream_app.edges.replaying import edges


class Consumer:
    """Answers with these edges, one after another."""

    def __init__(self, *answers: tuple[int, int]) -> None:
        self.answers = list(answers)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([(3, 7)], (3, 7)),
        ([(0, 0), (0, 7)], (0, 7)),
        ([(7, 7), (3, 7)], (3, 7)),
        ([(0, 0), (0, 0)], (0, 0)),
    ],
)
def test_a_partition_is_empty_only_if_it_is_told_so_twice(
    answers: list[tuple[int, int]], found: tuple[int, int]
) -> None:
    consumer: Any = Consumer(*answers)
    assert edges(consumer, "t", 0) == found
    assert not consumer.answers
