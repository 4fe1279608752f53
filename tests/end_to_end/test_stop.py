"""Ctrl-C and SIGTERM under load: quick, nothing lost, nothing twice."""

from __future__ import annotations

import json
import signal
from collections import Counter

from stream_app.core.outcome import Output
from tests.end_to_end.rig import Rig, Sent, workers

NOW = 1_767_225_600_000
RECORDS = 15_000
GRACE_S = 30  # that orchestrators usually give before they kill


def feed(first: int, count: int) -> list[Sent]:
    made = []
    for n in range(first, first + count):
        user, at = f"u{n * 7919 % 700}", NOW + n * 40
        fields = {"event_id": f"e{n}", "user_id": user, "type": "browse", "event_time": at}
        made.append(
            Sent(user.encode(), json.dumps(fields | {"item_id": f"i{n % 97}"}).encode(), at)
        )
    return made


def test_a_worker_stopped_under_load_loses_and_repeats_nothing(rig: Rig) -> None:
    rig.create_topics()
    sent = rig.produce(feed(0, RECORDS))
    for how in (signal.SIGTERM, signal.SIGINT):
        with workers(rig) as (worker,):
            rig.await_published(rig.published() + 100)
            code, took_s = worker.stop(how)
            assert code == 0, worker.said()
            assert took_s < GRACE_S
    assert rig.committed() < sent, "the load was gone before the stops"
    with workers(rig) as (worker,):
        worker.await_ready()
        rig.await_committed(sent, patience_s=120)
        assert worker.stop()[0] == 0, worker.said()
    ended = Counter(
        json.loads(r.value or b"")["event_id"]
        for output in (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS)
        for r in rig.read(output)
    )
    assert len(ended) == sent
    assert set(ended.values()) == {1}
