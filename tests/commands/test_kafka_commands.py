"""Commands against a real Kafka: what they send is where it belongs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream_app import cli
from stream_app.core.decode import Rejected
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output, dead_letter
from stream_app.core.record import StoredRecord
from stream_app.edges.kafka_admin import ensure_topics, partition_counts, record_limits
from stream_app.edges.replaying import Range, records
from stream_app.settings import KafkaSettings
from tests.servers import ROOT, Kafka

pytestmark = pytest.mark.kafka
CLOSED = KafkaSettings(bootstrap="127.0.0.1:1")


@pytest.fixture
def name() -> str:
    """Begins the topics of one test."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def settings(kafka: Kafka, name: str, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    monkeypatch.setenv("SHOPSENTRY_KAFKA__BOOTSTRAP", kafka.address)
    monkeypatch.setenv("SHOPSENTRY_KAFKA__INPUT_TOPICS", f"{name}.events")
    monkeypatch.setenv("SHOPSENTRY_KAFKA__OUTPUT_PREFIX", f"{name}.")
    return KafkaSettings(
        bootstrap=kafka.address, input_topics=(f"{name}.events",), output_prefix=f"{name}."
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """20 users, 10 events each, the second half without ids."""
    path = tmp_path / "shop.jsonl"
    with path.open("w") as file:
        for i in range(200):
            event = {"user_id": f"u{i % 20}", "type": "click", "event_time": 1_700_000_000_000 + i}
            file.write(json.dumps(event | ({"event_id": f"e{i}"} if i < 100 else {})) + "\n")
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def read(settings: KafkaSettings, topic: str) -> list[StoredRecord]:
    return list(records(settings.librdkafka(), Range(topic=topic)))


def ids(found: list[StoredRecord]) -> set[str]:
    return {json.loads(r.value or b"{}").get("event_id") for r in found}


async def test_missing_topics_are_made_to_fit_the_input(
    kafka: Kafka, settings: KafkaSettings, name: str
) -> None:
    kafka.create_topics([f"{name}.events"], partitions=3)
    for _ in range(2):  # the second time they are there
        counts = await ensure_topics(
            settings.aiokafka(),
            settings.input_topics,
            settings.outputs(),
            create=True,
            partitions=7,
            replication=1,
            max_record_bytes=2 << 20,
        )
        assert counts == {f"{name}.{n}": 3 for n in ("events", *Output)}
    limits = await record_limits(settings.aiokafka(), [f"{name}.cleaned"])
    assert limits[f"{name}.cleaned"] > 2 << 20


async def test_topics_that_may_not_be_made_are_named(settings: KafkaSettings, name: str) -> None:
    with pytest.raises(Misconfigured, match=rf"--topic {name}\.events --partitions 5"):
        await ensure_topics(
            settings.aiokafka(),
            settings.input_topics,
            {},
            create=False,
            partitions=5,
            replication=1,
            max_record_bytes=1 << 20,
        )
    assert f"{name}.events" not in await partition_counts(settings.aiokafka())


async def test_inputs_of_different_width_are_refused(
    kafka: Kafka, settings: KafkaSettings, name: str
) -> None:
    kafka.create_topics([f"{name}.a"], partitions=2)
    kafka.create_topics([f"{name}.b"], partitions=3)
    with pytest.raises(Misconfigured, match="equal partition counts"):
        await ensure_topics(
            settings.aiokafka(),
            [f"{name}.a", f"{name}.b"],
            {},
            create=True,
            partitions=1,
            replication=1,
            max_record_bytes=1 << 20,
        )


async def test_a_broker_that_is_not_there_is_a_wrong_setting() -> None:
    with pytest.raises(Misconfigured, match=r"no Kafka answers at 127\.0\.0\.1:1 within 0.5 s"):
        await partition_counts(CLOSED.aiokafka(), 0.5)


def test_produce_keeps_a_users_events_together_and_in_order(
    settings: KafkaSettings, shop: Path, name: str
) -> None:
    assert run("produce", str(shop)) == 0
    found = read(settings, f"{name}.events")
    assert sorted(r.value or b"" for r in found) == sorted(shop.read_bytes().splitlines())
    for user in {r.key for r in found}:
        mine = [r for r in found if r.key == user]
        assert len({r.partition for r in mine}) == 1
        times = [json.loads(r.value or b"")["event_time"] for r in mine]
        assert times == sorted(times)
    assert len({r.partition for r in found}) == 4
    assert all(r.timestamp > 1_700_000_001_000 for r in found)  # Kafka's time is now


def test_produce_ends_cleanly_on_ctrl_c(settings: KafkaSettings, shop: Path) -> None:
    command = [sys.executable, "-m", "stream_app", "produce", str(shop), "--rate", "20"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not read_or_none(settings) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    delivered = len(read(settings, settings.input_topics[0]))
    assert f"stopped: {delivered:,} events are delivered" in told
    assert 0 < delivered < 200


def read_or_none(settings: KafkaSettings) -> list[StoredRecord]:
    try:
        return read(settings, settings.input_topics[0])
    except Misconfigured:
        return []


def test_an_isolated_replay_keeps_partitions_times_and_ids(
    settings: KafkaSettings, shop: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("produce", str(shop)) == 0
    before = read(settings, f"{name}.events")
    assert run("replay", "--isolated", f"{name}-x", "--from-offset", "1") == 0
    assert f"SHOPSENTRY_KAFKA__INPUT_TOPICS={name}-x.events" in capsys.readouterr().out
    after = read(settings, f"{name}-x.events")
    kept = [r for r in before if r.offset > 0]
    assert {(r.partition, r.key, r.timestamp) for r in after} == {
        (r.partition, r.key, r.timestamp) for r in kept
    }
    named = {r.value and json.loads(r.value).get("event_id") for r in kept} - {None}
    made = {
        f"{r.topic}-{r.partition}-{r.offset}"
        for r in kept
        if "event_id" not in json.loads(r.value or b"")
    }
    assert ids(after) == named | made
    assert run("replay", "--isolated", f"{name}-x") == 2  # there are records in it


def test_a_dead_letter_goes_back_to_where_it_came_from(
    kafka: Kafka, settings: KafkaSettings, name: str
) -> None:
    kafka.create_topics([f"{name}.events", f"{name}.dead-letters"])
    producer = Producer({"bootstrap.servers": kafka.address, "log_level": 0})
    for reason in ("poison", "late"):
        value = json.dumps({"user_id": "u", "type": reason, "event_time": 1}).encode()
        record = StoredRecord(
            topic=f"{name}.events",
            partition=2,
            offset=7,
            timestamp=5,
            key=b"u",
            value=value,
            headers=(("reason", b"mine"),),
        )
        message = dead_letter(Rejected(record, reason, ""))
        producer.produce(
            f"{name}.dead-letters",
            message.value,
            message.key,
            0,
            headers=list(message.headers),
        )
    producer.flush(10)
    assert run("replay", "--dead-letters", "--reason", "poison", "--dry-run") == 0
    assert read(settings, f"{name}.events") == []
    assert run("replay", "--dead-letters", "--reason", "poison") == 0
    [back] = read(settings, f"{name}.events")
    assert (back.partition, back.key, back.headers) == (2, b"u", (("reason", b"mine"),))
    assert json.loads(back.value or b"")["event_id"] == f"{name}.events-2-7"


def test_alerts_are_shown_as_blocks_that_cannot_drive_the_terminal(
    kafka: Kafka, settings: KafkaSettings, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics([f"{name}.alerts", f"{name}.campaigns"])
    data = {
        "user_id": "u\x1b[31m",
        "task": "click",
        "event_id": "e1",
        "event_type": "click",
        "event_time": 1,
        "score": 0.97,
        "threshold": 0.9,
        "surprise": 7.5,
        "model": "m",
        "reasons": [
            {"field": "item", "events_back": 0, "observed": "i9", "expected": "i1", "share": 0.6}
        ],
        "window": {"events": 12, "span_s": 90.0},
        "suppressed": 3,
    }
    alert = {"specversion": "1.0", "id": "e1", "time": "2026-01-01T00:00:00Z", "data": data}
    producer = Producer({"bootstrap.servers": kafka.address, "log_level": 0})
    producer.produce(f"{name}.alerts", json.dumps(alert).encode(), b"u")
    producer.flush(10)
    assert run("alerts", "--from", "beginning", "--limit", "1") == 0
    told = capsys.readouterr().out
    assert "score 0.970 (alerts from 0.900)" in told
    assert "60% item: i9, expected i1" in told
    assert "12 events in 1.5 min" in told
    assert "\x1b" not in told


def test_campaigns_are_shown_beside_alerts_and_by_user(
    kafka: Kafka, settings: KafkaSettings, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.create_topics([f"{name}.alerts", f"{name}.campaigns"])
    evidence = {"users": 9, "same_paths": 0.5, "certainty": 0.9, "strength": 0.93}
    members = [
        {"user_id": f"u{n}", "events": 2, "first_event_id": f"e{n}", "score": 0.9} for n in range(9)
    ]
    data = {
        "campaign_id": "c1",
        "status": "closed",
        "kind": "query",
        "thing": "jackets\x1b[31m",
        "events": 18,
        "first_ms": 0,
        "last_ms": 90_000,
        "members": members,
        "evidence": {**evidence, "same_rhythm": None, "new_accounts": 0.25},
        "model": "m",
    }
    news = {"specversion": "1.0", "id": "c1-18", "time": "2026-01-01T00:00:00Z", "data": data}
    producer = Producer({"bootstrap.servers": kafka.address, "log_level": 0})
    for members_of in (members[:1], members):
        told = {**news, "data": {**data, "members": members_of}}
        producer.produce(f"{name}.campaigns", json.dumps(told).encode(), b"c1")
    producer.flush(10)
    assert run("alerts", "--from", "beginning", "--limit", "1", "--user", "u8") == 0
    shown = capsys.readouterr().out
    assert "campaign c1 at query jackets" in shown
    assert "18 anomalous events in 1.5 min, over" in shown
    assert "9 users: u0 (2), " in shown
    assert ", 1 more" in shown
    assert "50% at the same other items, 25% of new accounts" in shown
    assert "\x1b" not in shown
