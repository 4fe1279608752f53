"""What a worker meets at its limits: hot users, narrow topics, a slow broker, large records."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import faust
import pytest

from scripts.benchmarks.events import BEGIN_MS, EVENTS_PER_MS, random_records
from scripts.chaos.runs import judged
from scripts.chaos.stage import FreeWorker
from stream_app.core.outcome import Output
from tests.end_to_end.rig import Rig, Sent
from tests.servers import Kafka, kafka_jars

pytestmark = pytest.mark.slow
HOT = "u999999999"
WIDTHS = {
    Output.CLEANED: 2,
    Output.QUARANTINED: 3,
    Output.ALERTS: 1,
    Output.DEAD_LETTERS: 1,
    Output.USER_RISK: 1,
    Output.CAMPAIGNS: 1,
}


def load(count: int) -> Iterator[Sent]:
    """Every other record is of one user."""
    for at, (user, value) in enumerate(random_records(count)):
        mine = HOT if at % 2 else user
        content = value.replace(user.encode(), mine.encode())
        yield Sent(mine.encode(), content, BEGIN_MS + at // EVENTS_PER_MS)


def finish(rig: Rig, sent: int, **settings: object) -> None:
    """One worker takes all that was sent, and ends in order."""
    worker = FreeWorker(rig, "limits", **settings)
    try:
        rig.await_committed(sent)
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()
    finally:
        worker.close()


def test_one_user_with_half_of_all_and_outputs_with_fewer_partitions_keep_all_in_order(
    rig: Rig,
) -> None:
    rig.kafka.create_topics([rig.input], partitions=4, config={"retention.ms": "-1"})
    for output, width in WIDTHS.items():
        rig.kafka.create_topics(
            [rig.topic(output)], partitions=width, config={"retention.ms": "-1"}
        )
    sent = rig.produce(load(4000))
    finish(rig, sent)
    report = judged(rig, exactly_once=False, forgotten=False)  # of a user, in order too
    assert report.ok, report.differences[:5]
    assert report.outcomes.total() == 4000
    passed = rig.read(Output.CLEANED)
    assert {read.partition for read in passed} == {0, 1}
    hot = [read for read in passed if read.key == HOT.encode()]
    assert len(hot) > 1900
    assert [read.timestamp for read in hot] == sorted(read.timestamp for read in hot)


@contextmanager
def throttled(kafka: Kafka, client: str, bytes_s: int) -> Iterator[None]:
    """The broker makes this client wait, as its quota says."""
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka_jars()}/*"]
    about = ["kafka.admin.ConfigCommand", "--bootstrap-server", kafka.address]
    about += ["--entity-type", "clients", "--entity-name", client]
    quota = f"producer_byte_rate={bytes_s}"

    def ask(*words: str) -> str:
        told = subprocess.run(
            [*java, *about, *words], capture_output=True, text=True, timeout=90, check=True
        )
        return told.stdout

    ask("--alter", "--add-config", quota)
    try:
        assert quota in ask("--describe")
        yield
    finally:
        ask("--alter", "--delete-config", "producer_byte_rate")


def test_a_broker_that_throttles_delays_and_loses_nothing(rig: Rig) -> None:
    rig.create_topics()
    sent = rig.produce(load(3000))  # of 0.3 MB and more, with our headers
    with throttled(rig.kafka, f"faust-{faust.__version__}", 50_000):
        finish(rig, sent)
    report = judged(rig, exactly_once=False, forgotten=False)
    assert report.ok, report.differences[:5]
    assert report.outcomes.total() == 3000
    assert not report.repeats


def test_a_record_larger_than_the_clients_limits_passes_where_the_topics_take_it(rig: Rig) -> None:
    rig.create_topics(max_message_bytes="20000000")
    (_, small), (_, other) = random_records(2)
    large = small[:-1].replace(b'"event_id":"', b'"event_id":"large-')
    large += b', "extra": "' + b"x" * 5_000_000 + b'"}'
    sent = rig.produce([Sent(None, value, BEGIN_MS, 0) for value in (small, large, other)])
    finish(rig, sent, kafka__max_record_bytes=1_000_000)  # a request of ours takes 2 MB
    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    assert {read.value for read in passed} == {small, large, other}
    assert not rig.read(Output.DEAD_LETTERS)
