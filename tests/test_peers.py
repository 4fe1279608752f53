"""What the other engines of the bench are given to do is what the pipeline does.

Whether they do it: `scripts/bench --only 489` compares their outcomes with the pipeline's.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
import redis
from hypothesis import given

from scripts.benchmarks.scorers import free_encoder, free_rule
from scripts.peers import job
from stream_app.core.event import Event
from stream_app.core.window import DUPLICATE, LATE, WindowPolicy, Windows
from tests.core.oracle import Act, judge
from tests.core.test_window import histories
from tests.servers import RedisServer

POLICY = WindowPolicy(size=4, slack=72, span_ms=900, lateness_ms=60)
LIMITED = patch.multiple(
    job, SIZE=POLICY.size, SPAN_MS=POLICY.span_ms, LATENESS_MS=POLICY.lateness_ms
)
WHY = {job.DUPLICATE: DUPLICATE, job.LATE: LATE}


def test_their_limits_are_ours() -> None:
    ours = WindowPolicy()
    assert (ours.size, ours.slack, ours.span_ms) == (job.SIZE, job.SLACK, job.SPAN_MS)
    assert ours.lateness_ms == job.LATENESS_MS


def test_their_rows_are_as_large_as_ours_and_begin_alike() -> None:
    encoder = free_encoder()
    event = Event(user_id="u", type="click", at_ms=7, event_id="e", item_id="i", price=2.5)
    row, ours = job.row_of(event, 41), encoder.encode([event])
    assert len(row) == encoder.row.itemsize
    assert row[:16] == ours.tobytes()[:16]
    assert {kind: name.decode() for kind, name in job.TASKS.items()} == {
        kind: encoder.schema.tasks.names[task]
        for kind, task in encoder.schema.tasks.of_type.items()
    }


def row_of(act: Act) -> bytes:
    return job.ROW.pack(act.at_ms, act.id, act.offset + 1, 0, 0, 0, 0.0, 0, 0, 1)


def acts_of(window: bytes) -> list[Act]:
    return [Act(row[0], row[1], row[2] - 1) for row in job.ROW.iter_unpack(window)]


@given(history=histories())
def test_windows_are_the_oracles(history: list[tuple[bytes, Act]]) -> None:
    with LIMITED:
        for user in (b"a", b"b"):
            acts = [act for name, act in history if name == user]
            log = bytearray()
            found = [job.add(log, row_of(act)) for act in acts]
            told = [WHY[w] if isinstance(w, str) else acts_of(w) for w in found]
            assert told == judge(acts, POLICY)


@given(history=histories())
def test_a_row_that_comes_again_is_answered_again(history: list[tuple[bytes, Act]]) -> None:
    with LIMITED:
        log = bytearray()
        for _, act in history:
            first = job.add(log, row_of(act))
            before = bytes(log)
            assert job.add(log, row_of(act)) == first
            assert log == before


def test_their_scores_are_the_free_rules() -> None:
    encoder, log = free_encoder(), bytearray()
    events = [Event(user_id="u", type="cart", at_ms=at, event_id=f"e{at}") for at in range(400)]
    rows = encoder.encode(events)
    alone = Windows(rows, np.arange(400)[:, None], np.ones(400, np.int64))
    ours = free_rule(alone, np.zeros(400, np.int64))
    windows = [job.add(log, job.row_of(event, at)) for at, event in enumerate(events)]
    theirs = job.free([window for window in windows if isinstance(window, bytes)])
    assert np.allclose(theirs, ours)
    assert 0 < sum(score >= job.THRESHOLD for score in theirs) < 20


@pytest.mark.parametrize("kept", [job.Strings, job.SortedSets])
def test_every_record_has_its_outcome(
    kept: Callable[[redis.Redis], job.Windows], redis_server: RedisServer
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    client.delete(b"log:u", b"log:v", b"window:u", b"window:v")
    run = job.Job(kept(client), "p.", lambda windows: [len(w) / 4000 for w in windows])

    def record(user: str, at_ms: int, name: str, offset: int, **other: object) -> job.Record:
        told = {"user_id": user, "type": "click", "event_time": at_ms, "event_id": name, **other}
        return user.encode(), msgspec.json.encode(told), offset

    hour = 3_600_000
    few = [record("u", hour + at, f"e{at}", at) for at in range(60)]
    odd = [
        (b"nobody", b"not an event", 60),
        (b"u", None, 61),
        record("u", hour, "typed", 62, type="nonsense"),
        (b"v", *record("u", hour, "key", 63)[1:]),
        record("u", 1, "late", 64),
        record("u", hour, "e3", 65),  # a duplicate has none
    ]
    sent = run([*few[:30], *odd]) + run(few[30:])
    by_topic: dict[str, list[job.Message]] = {}
    for message in sent:
        by_topic.setdefault(message.topic, []).append(message)
    assert [m.value for m in by_topic["p.cleaned"]] == [value for _, value, _ in few[:49]]
    assert [m.value for m in by_topic["p.quarantined"]] == [value for _, value, _ in few[49:]]
    assert len(by_topic["p.alerts"]) == 11
    assert {m.value for m in by_topic["p.dead-letters"]} == {value for _, value, _ in odd[:5]}
    assert run(few[50:]) == sent[-20:]  # given again
    assert sum(client.ttl(key) > 24 * 3600 for key in (b"log:u", b"window:u")) == 1
