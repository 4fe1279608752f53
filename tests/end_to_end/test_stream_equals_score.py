"""One truth: the same file through the stream and through offline scoring, event by event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from models.simulate.shop import SimulationConfig, simulate
from stream_app.core.outcome import DUPLICATES, Output
from stream_app.core.record import Source, StoredRecord
from stream_app.core.window import seq_of, source_tag
from stream_app.edges.memory import MemoryOutbox
from stream_app.edges.redis_alerts import RedisAlertLog
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_windows import RedisWindows
from stream_app.offline import Judged, OfflineScorer
from stream_app.pipeline import Pipeline, Policies
from stream_app.settings import Settings
from stream_app.wiring import load_scorer, offline_scorer
from tests.end_to_end.rig import Read, Rig, Sent, Worker, headers_of, workers
from tests.servers import RedisServer

TOLERANCE = 1e-4
EVENTS = 1200


@cache
def lines() -> tuple[bytes, ...]:
    """A simulated feed, made worse: late within the allowed and beyond it, repeats, junk."""
    rng = np.random.default_rng(5)
    config = SimulationConfig(
        seed=11, events=EVENTS, span_ms=3_600_000, users=60, attack_share=0.15, late_share=0.05
    )
    events = [dict(s.event) for s in simulate(config)]
    for event in events:
        if rng.random() < 0.02:  # beyond the allowed, for most users that were here before
            event["event_time"] = int(str(event["event_time"])) - 11 * 60_000
    made = [msgspec.json.encode(event) for event in events]
    for _ in range(40):  # a producer that sends again, a little later
        at = int(rng.integers(0, len(made) - 30))
        made.insert(at + int(rng.integers(1, 30)), made[at])
    made.insert(100, b"not json at all")
    made.insert(500, b'{"user_id": "u", "type": "click"}')
    return tuple(made)


class Truth(NamedTuple):
    judged: dict[str, Judged]
    scorer: OfflineScorer


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.model_validate({"scorer": {"device": "cpu", "threads": 1}})


@pytest.fixture(scope="module")
def truth(settings: Settings) -> Truth:
    scorer = offline_scorer(settings)

    async def score_all() -> list[Judged]:
        return [j async for group in scorer.score(lines()) for j in group]

    judged = asyncio.run(score_all())
    assert len({j.event_id for j in judged}) == len(judged)
    return Truth({j.event_id: j for j in judged}, scorer)


def user_of(line: bytes) -> bytes | None:
    try:
        return str(json.loads(line)["user_id"]).encode()
    except ValueError:
        return None


def feed() -> Iterator[Sent]:
    for line in lines():
        at = json.loads(line).get("event_time", 0) if user_of(line) else 0
        yield Sent(user_of(line), line, at or 1_767_225_600_000)


def check(truth: Truth, rig: Rig, *, repeats: bool = False) -> None:
    """Same events in cleaned, quarantined and alerts; same scores; every record has an outcome."""
    cleaned, quarantined = rig.read(Output.CLEANED), rig.read(Output.QUARANTINED)
    alerts, dead = rig.read(Output.ALERTS), rig.read(Output.DEAD_LETTERS)
    ids = {
        "cleaned": _ids(cleaned),
        "quarantined": _ids(quarantined),
        "alerts": [json.loads(a.value or b"")["id"] for a in alerts],
    }
    if not repeats:
        for name, found in ids.items():
            assert len(found) == len(set(found)), f"{name} holds an event twice"
        totals = truth.scorer.totals
        assert len(dead) == totals.outcomes[Output.DEAD_LETTERS]
    normal = {i for i, j in truth.judged.items() if not j.anomalous}
    assert set(ids["cleaned"]) == normal
    assert set(ids["quarantined"]) == set(truth.judged) - normal
    assert set(ids["alerts"]) == {i for i, j in truth.judged.items() if j.alert}
    assert ids["alerts"], "a comparison without alerts shows little"
    for read in (*cleaned, *quarantined):
        expected = truth.judged[_ids([read])[0]].score
        assert abs(float(headers_of(read)["shopsentry-score"]) - expected) <= TOLERANCE
    for alert in alerts:
        body = json.loads(alert.value or b"")
        assert abs(body["data"]["score"] - truth.judged[body["id"]].score) <= TOLERANCE
    sent = {(user_of(line), line) for line in lines()}
    for read in (*cleaned, *quarantined, *dead):
        assert (read.key, read.value) in sent, "an output that is no input"


def _ids(reads: list[Read]) -> list[str]:
    return [json.loads(r.value or b"")["event_id"] for r in reads]


@pytest.mark.parametrize(("group_records", "count"), [(1, 2), (7, 1), (512, 1), (512, 2)])
async def test_the_stream_decides_as_score_does(
    rig: Rig, truth: Truth, group_records: int, count: int
) -> None:
    rig.create_topics()
    sent = rig.produce(feed())
    with workers(rig, count, flow__group_records=group_records) as running:
        rig.await_committed(sent)
        for worker in running:
            worker.await_ready()
            assert worker.stop()[0] == 0, worker.said()
    check(truth, rig)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
async def test_killed_workers_may_repeat_outputs_but_never_change_them(
    rig: Rig, truth: Truth, delivery: str
) -> None:
    """In transactions they do not even repeat them: what Redis heard of groups that were aborted
    makes no difference.
    """
    rig.create_topics()
    sent = rig.produce(feed())
    settings: dict[str, Any] = {"kafka__delivery": delivery, "flow__group_records": 32}
    settings |= {"kafka__session_timeout_s": 6, "kafka__heartbeat_s": 1}
    for n in range(2):
        worker = Worker(rig, f"killed-{n}", **settings)
        try:
            worker.kill_amid(rig.published() + 150)
        finally:
            worker.close()
    assert rig.committed() < sent, "the kills came too late"
    with workers(rig, **settings) as (last,):
        last.await_ready()
        rig.await_committed(sent)
        assert last.stop()[0] == 0, last.said()
    check(truth, rig, repeats=delivery == "at-least-once")


async def test_a_third_of_the_groups_delivered_twice_changes_nothing(
    redis_server: RedisServer, truth: Truth, settings: Settings
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    scorer, encoder = load_scorer(settings)
    limits = Policies(settings.window.policy(encoder.schema.window), settings.alerts.policy())
    redis = connect(redis_server.url)
    with ThreadPoolExecutor(2) as executor:
        pipeline = Pipeline(
            encoder,
            RedisWindows(redis, "twice", encoder.row, limits.window, executor=executor),
            scorer,
            RedisAlertLog(redis, "twice", limits.alerts, executor=executor),
            MemoryOutbox(),
            limits,
        )
        source, rng = Source("twice.events", 0), np.random.default_rng(3)
        records = [
            StoredRecord(
                topic=source.topic, partition=0, offset=n, timestamp=1 << 46, key=None, value=line
            )
            for n, line in enumerate(lines())
        ]
        done = committed = duplicates = 0
        seen: dict[str, tuple[float, bool]] = {}
        while done < len(records):
            group = records[done : done + int(rng.integers(1, 60))]
            for _ in range(2 if rng.random() < 1 / 3 else 1):
                read = await pipeline.read(
                    source, group, [seq_of(source_tag(source.topic), committed)]
                )
                decided = await pipeline.decide(read)
                outcome = pipeline.compose(decided)
                for at, event in enumerate(decided.seen.accepted.tolist()):
                    event_id = decided.seen.decoded.events[event].event_id or ""
                    said = (float(decided.scores.calibrated[at]), bool(decided.anomalous[at]))
                    if event_id in seen:
                        assert abs(seen[event_id][0] - said[0]) <= 1e-5
                    seen[event_id] = said
            duplicates += outcome.counts[DUPLICATES]
            done += len(group)
            if rng.random() < 0.5:  # commits trail behind
                committed = done
    assert duplicates == truth.scorer.totals.outcomes[DUPLICATES]
    assert seen.keys() == truth.judged.keys()
    for event_id, (score, anomalous) in seen.items():
        assert abs(score - truth.judged[event_id].score) <= TOLERANCE
        assert anomalous == truth.judged[event_id].anomalous
