"""`shopsentry audit` on real topics: silent after a good run, loud once a record is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from models.simulate.shop import SimulationConfig, simulate
from stream_app.core.outcome import Output
from tests.end_to_end.rig import ROOT, Rig, Sent, workers

START_MS = 1_767_225_600_000


def feed() -> list[Sent]:
    config = SimulationConfig(seed=3, events=600, span_ms=3_600_000, users=30, attack_share=0.15)
    events = [dict(one.event) for one in simulate(config)]
    sent = [
        Sent(str(e["user_id"]).encode(), msgspec.json.encode(e), int(str(e["event_time"])))
        for e in events
    ]
    sent[200:200] = [sent[150], Sent(b"u", b"junk", START_MS)]
    return sent


def audit(rig: Rig, *options: str) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-m", "stream_app", "audit", *options],
        cwd=ROOT,
        env=rig.environment() | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stdout + told.stderr


def commit_all(rig: Rig) -> None:
    """In the group's name, as if it were done with everything. None of it may be running."""
    consumer = Consumer({"bootstrap.servers": rig.kafka.address, "group.id": rig.name})
    try:
        places = [TopicPartition(rig.input, p) for p in range(rig.partitions)]
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        done = [TopicPartition(rig.input, p, end) for p, end in enumerate(ends)]
        consumer.commit(offsets=done, asynchronous=False)
    finally:
        consumer.close()


def test_a_good_run_is_proved_and_a_gap_is_shown(rig: Rig, tmp_path: Path) -> None:
    rig.create_topics()
    sent = rig.produce(feed())
    with workers(rig) as (worker,):
        rig.await_committed(sent)
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()
    model = str(ROOT / "models" / "pretrained" / "shop-tiny")
    code, told = audit(rig, "--json", "--model", model)
    found = json.loads(told)
    assert (code, found["ok"], found["records"]) == (0, True, sent), told
    assert (found["outcomes"]["duplicates"], found["waiting"]) == (1, 0)
    assert found["compared"] == sent - 2
    assert found["outcomes"][Output.QUARANTINED] > 0

    wrong = tmp_path / "scores.jsonl"
    first = json.loads(rig.read(Output.CLEANED)[0].value or b"")["event_id"]
    wrong.write_text(json.dumps({"event_id": first, "score": 0.99, "anomalous": True}) + "\n")
    code, told = audit(rig, "--against", str(wrong))
    assert code == 1
    assert "other score" in told
    assert "other decision" in told

    # The worker says it is done with a record that it never saw.
    rig.produce([Sent(b"u", json.dumps({"user_id": "u", "type": "click"}).encode(), START_MS, 0)])
    assert audit(rig)[0] == 0, "it waits still"
    commit_all(rig)
    code, told = audit(rig)
    assert code == 1
    assert "lost" in told
    assert "Traceback" not in told
