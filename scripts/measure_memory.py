"""Whether a worker's memory stays flat while more comes in than it can get rid of.

    .venv/bin/python -m scripts.measure_memory --minutes 10

A worker with the shipped model works at a backlog for five minutes: its buffers are full at once,
but users' windows, and with them the batches, grow longer for some minutes. Then a neighbour stalls
for --minutes, and the load goes on:
Redis is stopped (SIGSTOP), the device takes 480 s for each pass, the broker is stopped for 30 s of
every minute (after a minute without a broker, or ten without a device, a worker ends, as it
should); or `nothing` stalls.
Each has servers of its own; all run side by side. What is told is the worker's resident memory, by
minute: the median of the last minute before the stall beside the highest of a minute after it, and
the most that was seen.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil
from confluent_kafka import Producer
from msgspec import Struct

from scripts.benchmarks.events import BEGIN_MS, EVENTS_PER_MS, random_records
from tests.end_to_end.rig import Rig, Worker
from tests.servers import KafkaBroker, RedisServer

MINUTE_S: Final = 60.0
WARM: Final = 5  # minutes before a stall
STOPPED_S: Final = 30.0  # of every minute, the broker
MOST: Final = 3_000_000  # records of a load
BACKLOG: Final = 500_000  # records before the worker starts: more than its buffers take
QUEUED: Final = 50_000  # records of a load that wait for the broker
STALLS: Final = ("broker", "redis", "device", "nothing")
LAST: Final = 40  # lines of a worker's log
MIB: Final = 1 << 20


class Hung(Worker):
    program = ("scripts.hung_worker", str(WARM * MINUTE_S))


class Found(Struct, frozen=True):
    """One worker's memory over its life."""

    stalled: str
    rss_mib: Sequence[float]  # one a second
    sent: int
    committed: int
    last_words: str  # of a worker that ended by itself

    def minute(self, number: int) -> Sequence[float]:
        """From 1."""
        begin = round((number - 1) * MINUTE_S)
        return self.rss_mib[begin : begin + round(MINUTE_S)]

    def told(self) -> str:
        before, after = self.minute(WARM), self.rss_mib[round(WARM * MINUTE_S) :]
        if not after:
            return f"{self.stalled}: the worker ended by itself after {len(self.rss_mib)} s"
        minutes = [self.minute(n + 1) for n in range(round(len(self.rss_mib) / MINUTE_S))]
        medians = [statistics.median(minute) for minute in minutes]
        usual, highest = statistics.median(before), max(medians[WARM:], default=max(after))
        by_minute = " ".join(f"{median:.0f}" for median in medians)
        at_most = " ".join(f"{max(minute):.0f}" for minute in minutes)
        return (
            f"{self.stalled} stalled: median of minute {WARM} {usual:.0f} MiB, highest of a later "
            f"minute {highest:.0f} ({highest / usual - 1:+.1%}); by minute {by_minute}; "
            f"at most {at_most}; "
            f"{self.sent:,} sent, {self.committed:,} committed"
            + (f"; THE WORKER ENDED BY ITSELF:\n{self.last_words}" if self.last_words else "")
        )


class Load(threading.Thread):
    """Sends for as long as it is let; waits where Kafka takes no more."""

    def __init__(self, rig: Rig, rate: int) -> None:
        super().__init__(daemon=True)
        self._rate = rate
        self._topic = rig.input
        self._producer = Producer(
            {
                "bootstrap.servers": rig.kafka.address,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": 3_600_000,
                "log_level": 0,
            }
        )
        self.begun, self.enough = threading.Event(), threading.Event()
        self.sent = 0

    def run(self) -> None:
        began = float("-inf")  # the backlog comes as fast as Kafka takes it
        for user, value in random_records(MOST):
            while len(self._producer) >= QUEUED and not self.enough.is_set():
                self._producer.poll(0.5)
                if self.begun.is_set():
                    began = time.monotonic() - self.sent / self._rate  # not made up for
            if self.enough.is_set():
                break
            at_ms = BEGIN_MS + self.sent // EVENTS_PER_MS
            self._producer.produce(self._topic, value, user.encode(), timestamp=at_ms)
            self.sent += 1
            if self.sent == BACKLOG:
                began = time.monotonic() - self.sent / self._rate
                self.begun.set()
            if self.sent % 50 == 0:
                self._producer.poll(0)
                time.sleep(max(0.0, began + self.sent / self._rate - time.monotonic()))
        self._producer.purge()


def measure(stalled: str, minutes: int, rate: int, folder: Path) -> Found:
    """One worker, one stall."""
    broker = KafkaBroker(folder / "kafka", {"log.retention.bytes": str(1 << 30)})
    store = RedisServer(folder / "redis")
    with broker, store:
        rig = Rig(broker, store, folder)
        rig.create_topics()
        load = Load(rig, rate)
        load.start()
        load.begun.wait()
        worker = (Hung if stalled == "device" else Worker)(rig)
        try:
            worker.await_ready()
            rss = _watch(worker, stalled, minutes, broker, store)
            ended = worker.process.poll() is not None
            last_words = "\n".join(worker.said().splitlines()[-LAST:]) if ended else ""
            load.enough.set()
            load.join()
            return Found(stalled, rss, load.sent, rig.committed(), last_words)
        finally:
            load.enough.set()
            worker.close()


def _watch(
    worker: Worker, stalled: str, minutes: int, broker: KafkaBroker, store: RedisServer
) -> list[float]:
    """MiB, one a second; stops and wakes the servers meanwhile."""
    process, rss = psutil.Process(worker.process.pid), list[float]()
    began, stopped = time.monotonic(), False
    for second in range(round((WARM + minutes) * MINUTE_S)):
        wanted = second >= WARM * MINUTE_S and (
            stalled == "redis" or (stalled == "broker" and second % MINUTE_S < STOPPED_S)
        )
        if wanted != stopped:
            server = store if stalled == "redis" else broker
            (server.pause if wanted else server.resume)()
            stopped = wanted
        if worker.process.poll() is None:
            rss.append(process.memory_info().rss / MIB)
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    if stopped:
        (store if stalled == "redis" else broker).resume()
    return rss


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=10, help="of the stall")
    parser.add_argument("--rate", type=int, default=3000, help="records a second, of each load")
    parser.add_argument(
        "--stalled", nargs="+", choices=STALLS, default=["broker", "redis", "device"]
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(len(given.stalled)) as pool:
        asked = [
            pool.submit(measure, name, given.minutes, given.rate, Path(place, name))
            for name in given.stalled
        ]
        for done in asked:
            print(done.result().told(), flush=True)


if __name__ == "__main__":
    main()
