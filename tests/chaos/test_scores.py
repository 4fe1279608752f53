"""A run whose scores, decisions or alerts are not those of its scorer is not passed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from scripts.chaos.load import Load, records_of
from scripts.chaos.runs import RULES
from scripts.chaos.scores import compare_scores, memory_pipeline
from stream_app.core.audit import Report
from stream_app.core.outcome import Message, Output
from stream_app.core.record import Source, StoredRecord
from stream_app.edges.auditing import Gathered

SOURCE = Source("in", 0)


def stored(topic: str, messages: list[Message]) -> list[StoredRecord]:
    return [
        StoredRecord(
            topic=topic,
            partition=0,
            offset=offset,
            timestamp=message.timestamp or 0,
            key=message.key,
            value=message.value,
            headers=tuple(message.headers),
        )
        for offset, message in enumerate(messages)
    ]


async def gathered() -> tuple[Gathered, dict[Output, list[StoredRecord]]]:
    sent = records_of(7, 2000, Load(malformed=0.01))
    inputs = [
        StoredRecord(
            topic="in",
            partition=0,
            offset=at,
            timestamp=one.timestamp,
            key=one.key,
            value=one.value,
        )
        for at, one in enumerate(sent)
    ]
    pipeline, outbox = memory_pipeline(RULES)
    decided = await pipeline.decide(await pipeline.read(SOURCE, inputs, [0]))
    await pipeline.publish(SOURCE, len(inputs), pipeline.compose(decided))
    outputs = {output: stored(output, outbox.messages[output]) for output in Output}
    return Gathered(inputs, outputs, {0: range(len(inputs))}, True, 0), outputs


async def judged(found: Gathered) -> tuple[int, Report]:
    report = Report()
    return await asyncio.to_thread(compare_scores, found, RULES, report), report


async def test_what_the_pipeline_says_is_passed() -> None:
    found, outputs = await gathered()
    compared, report = await judged(found)
    assert report.ok, report.differences
    assert compared == len(outputs[Output.CLEANED]) + len(outputs[Output.QUARANTINED]) > 1500


async def test_a_missing_alert_is_told() -> None:
    found, outputs = await gathered()
    gone = outputs[Output.ALERTS].pop()
    _, report = await judged(found)
    told = [(one.kind, one.place) for one in report.differences]
    assert told == [("other alert", msgspec.json.decode(gone.value or b"")["id"])]


@pytest.mark.parametrize("kind", [Output.CLEANED, Output.QUARANTINED])
async def test_another_decision_is_told(kind: Output) -> None:
    found, outputs = await gathered()
    other = Output.QUARANTINED if kind == Output.CLEANED else Output.CLEANED
    outputs[other].append(outputs[kind].pop())
    _, report = await judged(found)
    assert report.kinds["other decision"] == 1


async def test_another_score_is_told() -> None:
    found, outputs = await gathered()
    first = outputs[Output.CLEANED][0]
    headers = [(n, b"0.9" if n == "shopsentry-score" else v) for n, v in first.headers]
    outputs[Output.CLEANED][0] = msgspec.structs.replace(first, headers=tuple(headers))
    _, report = await judged(found)
    assert report.kinds == {"other score": 1}
