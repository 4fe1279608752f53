"""Campaigns over real Kafka and Redis: those that a file shows, told once, whoever dies."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

import msgspec
import pytest

from models.simulate.shop import SimulationConfig, simulate
from stream_app.core.outcome import Output
from stream_app.settings import Settings
from stream_app.wiring import offline_scorer
from tests.end_to_end.rig import Read, Rig, Sent, Worker, workers


@cache
def events() -> tuple[dict[str, Any], ...]:
    """Three hours under attack by gangs."""
    config = SimulationConfig(
        seed=11,
        events=1500,
        span_ms=3 * 3_600_000,
        users=60,
        attack_share=0.3,
        families=("brushing", "coupon_abuse", "composite"),
    )
    return tuple(dict(simulated.event) for simulated in simulate(config))


def feed(rig: Rig) -> int:
    return rig.produce(
        Sent(event["user_id"].encode(), msgspec.json.encode(event), event["event_time"])
        for event in events()
    )


@pytest.fixture(scope="module")
def offline() -> list[dict[str, Any]]:
    """News of campaigns, of all events in their order."""
    settings = Settings.model_validate({"scorer": {"device": "cpu", "threads": 1}})
    scorer = offline_scorer(settings)

    async def score_all() -> None:
        async for _ in scorer.score(msgspec.json.encode(event) for event in events()):
            pass

    asyncio.run(score_all())
    return [json.loads(news) for news in scorer.campaigns]


def told(news: list[dict[str, Any]]) -> dict[str, Any]:
    """What is told of open campaigns, by id: but for scores, which differ in their last digits, and
    closings, which come with whatever anomalous event is next.
    """
    found = {}
    for one in news:
        data = one["data"]
        if data["status"] == "open":
            members = [(m["user_id"], m["events"], m["first_event_id"]) for m in data["members"]]
            found[one["id"]] = {**data, "members": members}
    return found


def bodies(reads: list[Read]) -> list[dict[str, Any]]:
    return [json.loads(read.value or b"") for read in reads]


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_killed_worker_changes_no_campaign(
    rig: Rig, offline: list[dict[str, Any]], delivery: str
) -> None:
    rig.partitions = 1  # the file's order is the topic's
    rig.create_topics()
    sent = feed(rig)
    settings: dict[str, Any] = {"kafka__delivery": delivery, "flow__group_records": 32}
    settings |= {"kafka__session_timeout_s": 6, "kafka__heartbeat_s": 1}
    worker = Worker(rig, "killed", **settings)
    try:
        worker.kill_amid(sent // 2)
    finally:
        worker.close()
    assert rig.committed() < sent, "the kill came too late"
    with workers(rig, **settings) as (last,):
        last.await_ready()
        rig.await_committed(sent)
        assert last.stop()[0] == 0, last.said()
    reads = rig.read(Output.CAMPAIGNS)
    found = bodies(reads)
    assert told(found) == told(offline)
    assert len(told(offline)) > 10, "few campaigns show little"
    values = {read.value for read in reads}
    ids = [one["id"] for one in found]
    assert len(values) == len(set(ids)), "an id came with two contents"
    if delivery == "exactly-once":
        assert len(ids) == len(set(ids))
    assert {one["id"] for one in found if one["data"]["status"] == "closed"}
    assert all(one["subject"].encode() == read.key for one, read in zip(found, reads, strict=True))


def test_partitions_of_several_workers_share_campaigns(rig: Rig) -> None:
    rig.create_topics()
    sent = feed(rig)
    with workers(rig, 2) as running:
        rig.await_committed(sent)
        for worker in running:
            worker.await_ready()
            assert worker.stop()[0] == 0, worker.said()
    reads = rig.read(Output.CAMPAIGNS)
    place = {(read.key, read.partition) for read in reads}
    assert len(place) == len({key for key, _ in place}), "a campaign lies in two partitions"
    partition_of = {json.loads(r.value or b"")["event_id"]: r.partition for r in quarantined(rig)}
    spread = [
        len({partition_of[m["first_event_id"]] for m in one["data"]["members"]})
        for one in bodies(reads)
    ]
    assert max(spread) > 1, "no campaign has users of two partitions"


def quarantined(rig: Rig) -> list[Read]:
    return rig.read(Output.QUARANTINED)
