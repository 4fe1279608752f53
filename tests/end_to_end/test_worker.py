"""The worker's other ways of starting, its web port, and several input topics."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import yaml

from stream_app.core.outcome import Output
from stream_app.edges.embedded import free_port
from tests.end_to_end.rig import ROOT, Rig, Sent, Worker, workers

NOW = 1_767_225_600_000


def event(n: int, **changes: Any) -> Sent:
    fields = {"event_id": f"e{n}", "user_id": "u", "type": "click", "event_time": NOW + n * 1000}
    return Sent(b"u", json.dumps(fields | {"item_id": "i1"} | changes).encode(), NOW + n * 1000)


def test_health_and_metrics_say_what_happened(rig: Rig) -> None:
    rig.create_topics()
    sent = rig.produce([event(n) for n in range(20)] + [Sent(b"u", b"junk", NOW)])
    with workers(rig) as (worker,):
        worker.await_ready()
        rig.await_committed(sent)
        health, page = json.loads(worker.get("/health")), worker.get("/metrics")
        assert worker.stop()[0] == 0, worker.said()
    assert (health["status"], health["partitions"], health["lag_records"]) == ("ok", 4, 0)
    assert health["model"].startswith("shop-tiny-")
    assert 'shopsentry_records_total{outcome="dead-letters"} 1.0' in page
    assert "shopsentry_scored_total 20.0" in page
    assert "junk" not in worker.said()


def test_faust_starts_the_same_worker(rig: Rig) -> None:
    rig.create_topics()
    sent = rig.produce([event(n) for n in range(20)])
    process = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "stream_app.app:app", "worker", "-l", "warn"],
        cwd=ROOT,
        env=rig.environment(web__port=free_port()),
    )
    try:
        rig.await_committed(sent)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
    assert len(rig.read(Output.CLEANED)) + len(rig.read(Output.QUARANTINED)) == sent


def test_the_compose_file_starts_a_worker_that_works(rig: Rig) -> None:
    """No engine here: the same command and environment, with this machine's addresses."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["worker"]
    command = service["command"]
    assert (command if isinstance(command, str) else " ".join(command)) == "shopsentry worker"
    given, elsewhere = service["environment"], ("KAFKA__BOOTSTRAP", "REDIS__URL", "WEB__PORT")
    assert {f"SHOPSENTRY_{name}" for name in elsewhere} < set(given)
    named = {name.removeprefix("SHOPSENTRY_"): value for name, value in given.items()}
    ours = {name.lower(): value for name, value in named.items() if name not in elsewhere}
    rig.create_topics()
    sent = rig.produce([event(n) for n in range(20)])
    worker = Worker(rig, "composed", **{**ours, "web__host": "127.0.0.1"})
    try:
        rig.await_committed(sent)
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()
    finally:
        worker.close()


def test_a_user_s_events_of_two_topics_meet_in_one_window(rig: Rig) -> None:
    second = f"{rig.name}.more"
    rig.create_topics()
    rig.kafka.create_topics([second], partitions=4, config={"retention.ms": "-1"})
    with workers(rig, kafka__input_topics=f"{rig.input},{second}") as (worker,):
        worker.await_ready()
        rig.await_committed(rig.produce([event(n) for n in range(5)]))
        rig.produce([event(3), event(100)], topic=second)  # the first is known from the other topic
        rig.await_published(6)
        page = worker.get("/metrics")
        assert worker.stop()[0] == 0, worker.said()
    assert 'shopsentry_records_total{outcome="duplicates"} 1.0' in page
    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    assert len(passed) == 6
