"""From an event's scheduled send time to its outcome, as a reader of committed records sees it.

    .venv/bin/python scripts/bench_end_to_end.py             # both scorers, both deliveries
    .venv/bin/python scripts/bench_end_to_end.py --free 15000 --model --rounds 5 --json e2e.json

Open loop: every event has a time at which it is due, and its latency counts from then, whether or
not the producer or the worker could keep up. Real Kafka (one broker), real Redis, one worker, all
on this machine, producer and reader too: what they take, the worker lacks. Windows are full (free
scorer) or as a shop's day left them (the shipped model on the CPU).

Prints for each load the quantiles of all outcomes and of alerts, and where the time went (medians):

    sent      due -> appended to the input topic
    worked    appended -> its outcome appended, by events that were quarantined
    read      its outcome appended -> read

A load whose latency grows from the first to the second half of the stretch was too high.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import queue
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from scripts.benchmarks import events, scorers
from scripts.benchmarks.rig import Rig, Variant, save
from stream_app.core.outcome import Output
from stream_app.settings import ScorerSettings

OURS: Final = "scripts.benchmarks.worker"
READ: Final = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS, Output.ALERTS)
STAMP: Final = re.compile(rb'"(\d{16})[0-9a-f]{8}"')  # an event id: microseconds due, a number
HOLE: Final = "#" * 24  # where it goes
LOG_TIME: Final = {"message.timestamp.type": "LogAppendTime"}
PROBE_S: Final = 0.05
TICK_S: Final = 0.001  # the producer looks for what is due this often
PATIENCE_S: Final = 180.0


class Load(NamedTuple):
    """What is sent, and what it meets."""

    scorer: str  # free or model
    delivery: str
    rate: int  # events a second


class Sent(NamedTuple):
    """When the measured stretch was, and how punctual the producer."""

    begin_us: int
    end_us: int
    events: int
    late_p99_ms: float


def main() -> None:
    told = arguments()
    loads = [
        Load(scorer, delivery, rate)
        for scorer, rates in (("model", told.model), ("free", told.free))
        for rate in rates
        for delivery in told.delivery
    ]
    context = multiprocessing.get_context("spawn")
    found: list[dict[str, Any]] = []
    print(f"{os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Rig(Path(folder), told.bundle) as rig,
    ):
        remember(rig, {load.scorer for load in loads})
        for round_ in range(1, told.rounds + 1):
            for load in loads:
                one = {"round": round_, **load._asdict(), **measure(rig, context, load, told)}
                found.append(one)
                print(line(one), flush=True)
                if told.json:
                    told.json.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--free", type=int, nargs="*", default=[1000, 5000, 15000], help="events/s")
    parser.add_argument("--model", type=int, nargs="*", default=[250, 1000], help="events/s")
    ways = ("at-least-once", "exactly-once")
    parser.add_argument("--delivery", nargs="+", choices=ways, default=ways)
    parser.add_argument("--warm", type=float, default=5.0, help="s before the stretch")
    parser.add_argument("--seconds", type=float, default=10.0, help="the stretch")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bundle", type=Path, default=ScorerSettings().bundle)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def remember(rig: Rig, kinds: set[str]) -> None:
    """The Redis servers that workers start from."""
    encoder = scorers.free_encoder()
    for kind in kinds:
        with rig.redis(f"e2e-{kind}") as server:
            if kind == "free":
                history = events.full_logs(encoder, "before")
            else:
                history = events.Shop(40_000, 1).history(encoder, "day")
            events.remember(server.url, encoder, history)
            save(server)


def measure(rig: Rig, context: Any, load: Load, told: argparse.Namespace) -> dict[str, Any]:
    name, topics = rig.outputs(
        {Output.QUARANTINED: LOG_TIME, Output.ALERTS: LOG_TIME, "events": LOG_TIME}
    )
    variant = Variant(
        "", OURS, load.scorer, f"{name}.events", f"e2e-{load.scorer}", delivery=load.delivery
    )
    answers, ready, over = context.Queue(), context.Event(), context.Event()
    reader = context.Process(target=read, args=(rig.kafka.address, name, ready, over, answers))
    sending = rig.kafka.address, variant.topic, load, told.warm, told.seconds, ready, answers
    sender = context.Process(target=send, args=sending)
    with rig.redis(variant.history) as server, rig.workers(variant, name, server):
        try:
            reader.start()
            sender.start()
            sent = Sent(*answers.get(timeout=PATIENCE_S * 2))
            time.sleep(min(10.0, told.seconds))  # what is late still counts
            over.set()
            seen = answers.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise RuntimeError(
                f"no answer from the worker or those around it:\n{rig.log(name)}"
            ) from None
        finally:
            reader.kill()
            sender.kill()
    rig.forget(topics)
    return judged(sent, seen)


def send(
    bootstrap: str, topic: str, load: Load, warm_s: float, seconds: float, ready: Flag, answers: Any
) -> None:
    """Probes until the worker answers; then the load, each event when it is due."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": 1, "socket.nagle.disable": True}
    )
    count = int(load.rate * (warm_s + seconds))
    probes = int(PATIENCE_S / PROBE_S)
    values = list(prepared(load.scorer, count + probes))
    gc.freeze()
    gc.disable()

    def put(number: int, due_us: int) -> None:
        user, head, tail, partition = values[number]
        value = b"%b%016d%08x%b" % (head, due_us, number, tail)
        producer.produce(topic, value, user, partition=partition)

    number = 0
    while not ready.is_set():
        if number == probes:
            raise RuntimeError(f"the worker did not answer within {PATIENCE_S} s")
        put(number, time.time_ns() // 1000)
        producer.poll(0)
        time.sleep(PROBE_S)  # poll may return at once
        number += 1
    begin_us = time.time_ns() // 1000 + 100_000
    due_us = begin_us + (np.arange(count) * 1e6 / load.rate).astype(np.int64)
    late_us = np.zeros(count)
    at = 0
    for upto in _in_time(due_us, producer):
        late_us[at:upto] = time.time_ns() // 1000 - due_us[at:upto]
        for which in range(at, upto):
            put(number + which, int(due_us[which]))
        at = upto
    producer.flush(PATIENCE_S)
    first = int(load.rate * warm_s)
    late_ms = float(np.quantile(late_us[first:], 0.99) / 1000)
    answers.put(Sent(int(due_us[first]), int(due_us[-1]), count - first, late_ms))


def _in_time(due_us: np.ndarray, producer: Any) -> Iterator[int]:
    """How many are due by now, each time that there are more. It sleeps in between: waiting in a
    loop takes a core away from those that are measured.
    """
    done = 0
    while done < len(due_us):
        producer.poll(0)
        ahead_us = int(due_us[done]) - time.time_ns() // 1000
        time.sleep(max(ahead_us / 1e6, TICK_S))
        due = int(np.searchsorted(due_us, time.time_ns() // 1000, "right"))
        if due > done:
            yield due
            done = due


def prepared(scorer: str, count: int) -> Iterator[tuple[bytes, bytes, bytes, int]]:
    """User, what stands before the event id and after it, partition."""
    if scorer == "free":
        records = events.random_records(count)
    else:
        records = events.Shop(40_000, count).records()
    for user, value in records:
        named = re.sub(rb'("event_id":")[^"]*', rb"\g<1>" + HOLE.encode(), value)
        head, _, tail = named.partition(HOLE.encode())
        yield user.encode(), head, tail, events.partition_of(user)


def read(bootstrap: str, name: str, ready: Flag, over: Flag, answers: Any) -> None:
    """Everything in the output topics of `name`: output, due, appended and read (microseconds)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{name}.reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign(
        [
            TopicPartition(f"{name}.{output}", partition, 0)
            for output in READ
            for partition in range(events.PARTITIONS)
        ]
    )
    place = {f"{name}.{output}": at for at, output in enumerate(READ)}
    found: list[tuple[int, int, int, int]] = []
    gc.disable()
    while not over.is_set():
        first = consumer.poll(0.02)  # `consume` waits for all that it is asked for
        if first is None:
            continue
        for record in (first, *consumer.consume(2000, timeout=0)):
            now_us = time.time_ns() // 1000
            stamp = STAMP.search(record.value() or b"")
            if record.error() is None and stamp is not None:
                found.append(
                    (
                        place[record.topic() or ""],
                        int(stamp[1]),
                        record.timestamp()[1] * 1000,
                        now_us,
                    )
                )
                if not ready.is_set():
                    ready.set()
    consumer.close()
    answers.put(np.array(found, np.int64).reshape(-1, 4))


def judged(sent: Sent, seen: np.ndarray) -> dict[str, Any]:
    output, due, appended, now = seen[(seen[:, 1] >= sent.begin_us) & (seen[:, 1] <= sent.end_us)].T
    whole_ms = (now - due) / 1000
    final = output != READ.index(Output.ALERTS)
    cleaned = output == READ.index(Output.CLEANED)  # its records keep the input's time
    aside = output == READ.index(Output.QUARANTINED)
    half = due < (sent.begin_us + sent.end_us) // 2
    sent_ms = float(np.median(appended[cleaned] - due[cleaned]) / 1000)
    return {
        "events": sent.events,
        "outcomes": int(final.sum()),
        "producer late p99 ms": sent.late_p99_ms,
        "outcome ms": quantiles(whole_ms[final]),
        "alert ms": quantiles(whole_ms[~final]),
        "first half p50 ms": float(np.median(whole_ms[final & half])),
        "second half p50 ms": float(np.median(whole_ms[final & ~half])),
        "sent ms": sent_ms,
        "worked ms": float(np.median(appended[aside] - due[aside]) / 1000) - sent_ms,
        "read ms": float(np.median(now[aside] - appended[aside]) / 1000),
        "load": os.getloadavg()[0],
    }


def quantiles(some: np.ndarray) -> dict[str, float]:
    if not len(some):
        return {}
    asked = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {"n": len(some), **{name: float(np.quantile(some, q)) for name, q in asked.items()}}


def line(one: dict[str, Any]) -> str:
    def told(some: dict[str, float]) -> str:
        return " / ".join(f"{some[q]:,.0f}" for q in ("p50", "p99", "max")) if some else "none"

    return (
        f"round {one['round']}  {one['scorer']:5} {one['delivery']:13} {one['rate']:6,} events/s  "
        f"p50 / p99 / max ms: outcomes {told(one['outcome ms'])}, alerts {told(one['alert ms'])}; "
        f"sent {one['sent ms']:.0f}, worked {one['worked ms']:.0f}, read {one['read ms']:.0f}; "
        f"halves {one['first half p50 ms']:.0f}, {one['second half p50 ms']:.0f}; "
        f"{one['outcomes']:,} of {one['events']:,}; producer late {one['producer late p99 ms']:.1f}"
        f"; load {one['load']:.1f}"
    )


if __name__ == "__main__":
    main()
