"""Events sent when they are due, and what comes of them, by two processes beside the worker.

Open loop: whoever sends does not wait for whoever works. Of a step (so many events a second, for so
long) only what was due after its first seconds counts.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event as Flag
from typing import Any, Final, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from scripts.benchmarks import events
from stream_app.core.outcome import Output

READ: Final = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS, Output.ALERTS)
STAMP: Final = re.compile(rb'"(\d{16})[0-9a-f]{8}"')  # an event id: microseconds due, a number
HOLE: Final = "#" * 24  # where it goes
PROBE_S: Final = 0.05
TICK_S: Final = 0.001  # the producer looks for what is due this often
PATIENCE_S: Final = 180.0
BEHIND: Final = 0.05  # of a load: if latency grows by more than that, it cannot be kept up with
WAITING: Final = 0.1  # of a load since it began: if so much waits in the middle, neither


class Begun(NamedTuple):
    """The stretch of a step that counts has begun."""


class Sent(NamedTuple):
    """When the stretch was, and how punctual the producer."""

    first_us: int  # when the step began
    begin_us: int
    end_us: int
    events: int
    sent: int  # since the topic was new
    late_p99_ms: float


def send(
    bootstrap: str,
    scorer: str,
    count: int,
    warm_s: float,
    seconds: float,
    ready: Flag,
    asked: Any,
    answers: Any,
) -> None:
    """Sends as it is `asked`: a new topic is probed until its worker answers, a rate is a step."""
    settings = {"bootstrap.servers": bootstrap, "acks": 1}
    producer = Producer({**settings, "linger.ms": 0, "socket.nagle.disable": True})
    probes = int(PATIENCE_S / PROBE_S)
    values = list(prepared(scorer, count + probes))
    gc.freeze()
    gc.disable()
    topic, number = "", 0

    def put(which: int, due_us: int) -> None:
        user, head, tail, partition = values[which]
        value = b"%b%016d%08x%b" % (head, due_us, which, tail)
        producer.produce(topic, value, user, partition=partition)

    while (told := asked.get()) is not None:
        if isinstance(told, str):
            topic, number = told, 0
            while not ready.is_set() and number < probes:
                put(number, time.time_ns() // 1000)
                producer.poll(0)
                time.sleep(PROBE_S)  # poll may return at once
                number += 1
            continue
        due_us = time.time_ns() // 1000 + 100_000
        due_us = due_us + (np.arange(int(told * (warm_s + seconds))) * 1e6 / told).astype(np.int64)
        late_us, first, at = np.zeros(len(due_us)), int(told * warm_s), 0
        for upto in _in_time(due_us, producer):
            late_us[at:upto] = time.time_ns() // 1000 - due_us[at:upto]
            if at <= first < upto:
                answers.put(Begun())
            for which in range(at, upto):
                put(number + which, int(due_us[which]))
            at = upto
        producer.flush(PATIENCE_S)
        number += len(due_us)
        late_ms = float(np.quantile(late_us[first:], 0.99) / 1000)
        stretch = int(due_us[0]), int(due_us[first]), int(due_us[-1])
        answers.put(Sent(*stretch, len(due_us) - first, number, late_ms))


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


def read(
    bootstrap: str, name: str, ready: Flag, seen: Synchronized[int], asked: Any, answers: Any
) -> None:
    """What comes in the output topics of `name`, since it was last asked: output, due, appended
    and read (microseconds). `seen` counts all outcomes.
    """
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
    alert = READ.index(Output.ALERTS)
    found: list[tuple[int, int, int, int]] = []
    gc.disable()
    while True:
        if asked.is_set():
            asked.clear()
            answers.put(np.array(found, np.int64).reshape(-1, 4))
            found.clear()
        first = consumer.poll(0.02)  # `consume` waits for all that it is asked for
        if first is None:
            continue
        some = (first, *consumer.consume(2000, timeout=0))
        now_us, outcomes = time.time_ns() // 1000, 0
        for record in some:
            stamp = STAMP.search(record.value() or b"")
            if record.error() is not None:
                continue
            output = place[record.topic() or ""]
            outcomes += output != alert
            if stamp is not None:
                found.append((output, int(stamp[1]), record.timestamp()[1] * 1000, now_us))
        seen.value += outcomes
        ready.set()


def judged(sent: Sent, seen: np.ndarray, outcomes: int) -> dict[str, Any]:
    """Latencies of what was due in the stretch, and where the time went (medians).

    `seen` lacks broken records, which have no id; `outcomes` counts all since the topic was new.
    """
    output, due, appended, now = seen[(seen[:, 1] >= sent.begin_us) & (seen[:, 1] <= sent.end_us)].T
    whole_ms = (now - due) / 1000
    alert = output == READ.index(Output.ALERTS)
    cleaned = output == READ.index(Output.CLEANED)  # its records keep the input's time
    aside = output == READ.index(Output.QUARANTINED)
    half = due < (sent.begin_us + sent.end_us) // 2
    sent_ms = _median(appended[cleaned] - due[cleaned])
    first_ms, second_ms = (_median((now - due)[~alert & some]) for some in (half, ~half))
    apart_ms = (sent.end_us - sent.begin_us) / 2000
    since_ms = (sent.begin_us - sent.first_us) / 1000 + apart_ms
    grown = grows(first_ms, second_ms, apart_ms, since_ms)
    return {
        "events": sent.events,
        "outcomes": int((~alert).sum()),
        "producer late p99 ms": sent.late_p99_ms,
        "outcome ms": quantiles(whole_ms[~alert]),
        "alert ms": quantiles(whole_ms[alert]),
        "first half p50 ms": first_ms,
        "second half p50 ms": second_ms,
        "kept up": outcomes >= sent.sent and not grown,
        "sent ms": sent_ms,
        "worked ms": _median(appended[aside] - due[aside]) - sent_ms,
        "read ms": _median(now[aside] - appended[aside]),
        "alert worked ms": _median(appended[alert] - due[alert]) - sent_ms,
        "alert read ms": _median(now[alert] - appended[alert]),
    }


def grows(first_ms: float, second_ms: float, apart_ms: float, since_ms: float) -> bool:
    """Whether latency grew between the halves of a stretch, whose middles are so far apart, or was
    so high that it had grown since the step began. A worker that takes all that waits at once
    answers it at once, so that latency falls for a while although the load is too high.
    """
    waits = (first_ms + second_ms) / 2 > WAITING * since_ms
    return waits or second_ms - first_ms > BEHIND * apart_ms


def _median(some_us: np.ndarray) -> float:
    return float(np.median(some_us) / 1000) if len(some_us) else float("nan")


def quantiles(some: np.ndarray) -> dict[str, float]:
    if not len(some):
        return {}
    asked = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {"n": len(some), **{name: float(np.quantile(some, q)) for name, q in asked.items()}}
