"""How long partitions stand still after a crash, and in a rolling restart, as readers see it.

    .venv/bin/python -m scripts.measure_recovery --rounds 5 --out recovery.json
    .venv/bin/python -m scripts.measure_recovery --table recovery.json more.json

Three workers with the settings of the product and a scorer that costs nothing take an even load on
four partitions; a reader of committed records notes when something arrives in each partition of the
cleaned stream. In each round one thing happens:

    worker   kill -9; nobody starts another. Bar: session timeout + 3 s after the kill
    broker   kill -9, and started again. Bar: 5 s after it answers again
    redis    kill -9, and started again with its data. Bar: 5 s after it answers again
    rolling  SIGTERM to each worker in turn, once another one is ready. Bar: no gap over 3 s

`after` is the end of the longest gap of any partition, from that moment on; `gap` is its length.
Afterwards the audit looks at everything: of a rolling restart alone, of the crashes together. Ends
with 1 if a bar is missed or a record lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import Consumer, TopicPartition
from msgspec import Struct, field, structs

from scripts.chaos.load import Feed, Load
from scripts.chaos.runs import judged
from scripts.chaos.site import Site, one_node
from scripts.chaos.stage import FreeWorker
from stream_app.core.outcome import Output
from stream_app.settings import KafkaSettings
from tests.end_to_end.rig import Rig

SESSION_S: Final = KafkaSettings().session_timeout_s
WORKERS: Final = 3
LOAD: Final = Load(a_second=400)
STEADY_S: Final = 3.0  # of flow, before something happens and at the end
BROKEN_S: Final = 1.0  # between kill and start
GAP_S: Final = 0.5  # shorter ones are no gaps
BARS: Final = {"worker": SESSION_S + 3.0, "broker": 5.0, "redis": 5.0, "rolling": 3.0}


class Round(Struct, kw_only=True):
    """One round. In s."""

    what: str
    delivery: str
    after: float
    gap: float
    records: int = 0
    lost: int = 0
    doubled: int = 0
    repeats: int = 0
    other: int = 0
    sent: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def in_time(self) -> bool:
        return (self.gap if self.what == "rolling" else self.after) <= BARS[self.what]

    @property
    def ok(self) -> bool:
        return self.in_time and not (self.lost or self.doubled or self.other)


class Reader(threading.Thread):
    """Notes when records arrive in each partition of a topic."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(daemon=True)
        self._rig = rig
        self._end = threading.Event()
        self.arrivals: dict[int, list[float]] = {p: [] for p in range(rig.partitions)}

    def run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._rig.kafka.address,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        topic = self._rig.topic(Output.CLEANED)
        consumer.assign([TopicPartition(topic, p, 0) for p in self.arrivals])
        while not self._end.is_set():
            for message in consumer.consume(500, timeout=0.05):
                partition = message.partition()
                if message.error() is None and partition is not None:
                    self.arrivals[partition].append(time.monotonic())
        consumer.close()

    def close(self) -> None:
        self._end.set()
        self.join()

    def flows(self, seconds: float) -> bool:
        """Whether every partition has had something lately."""
        since = time.monotonic() - seconds
        return all(times and times[-1] > since for times in self.arrivals.values())

    def longest(self, since: float) -> tuple[float, float]:
        """End and length of the longest gap of any partition that ends after `since`."""
        found = (since, 0.0)
        for arrivals in self.arrivals.values():
            times = [*arrivals, time.monotonic()]  # as of now: more come meanwhile
            for begin, end in pairwise(times):
                if end > since and end - begin > max(GAP_S, found[1]):
                    found = (end, end - begin)
        return found


class Scene:
    """Workers at work, read all the while."""

    def __init__(self, rig: Rig, site: Site, reader: Reader, settings: dict[str, object]) -> None:
        self.rig, self.site, self.reader = rig, site, reader
        self._settings = settings
        self._made = 0
        self.workers = [self.start() for _ in range(WORKERS)]

    def start(self) -> FreeWorker:
        self._made += 1
        return FreeWorker(self.rig, f"w{self._made}", **self._settings)

    def await_flow(self, steady_s: float = STEADY_S, patience_s: float = 90.0) -> None:
        """Until every partition flows, and has done so for a while. Raises TimeoutError."""
        until, since = time.monotonic() + patience_s, time.monotonic()
        while time.monotonic() - since < steady_s:
            if time.monotonic() > until:
                raise TimeoutError("not every partition flows")
            if not self.reader.flows(GAP_S):
                since = time.monotonic()
            time.sleep(0.05)

    def await_ready(self, worker: FreeWorker, patience_s: float = 180.0) -> None:
        """Until it has partitions, also where others keep the machine busy. Raises TimeoutError."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            with suppress(OSError):  # 503 until it has some, and no answer before that
                worker.get("/health")
                return
            assert worker.process.poll() is None, worker.said()
            time.sleep(0.1)
        raise TimeoutError(worker.said())

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


# -- what happens; each returns the moment from which it is measured


def worker(scene: Scene) -> float:
    killed = scene.workers.pop()
    scene.rig.workers.remove(killed)
    killed.process.kill()
    began = time.monotonic()
    killed.close()
    time.sleep(SESSION_S + STEADY_S)
    scene.await_flow()
    scene.workers.append(scene.start())
    return began


def broker(scene: Scene) -> float:
    (server,) = scene.site.brokers
    server.kill()
    time.sleep(BROKEN_S)
    server.start()
    return time.monotonic()


def store(scene: Scene) -> float:
    scene.site.store.kill()
    time.sleep(BROKEN_S)
    scene.site.store.start()
    return time.monotonic()


def rolling(scene: Scene) -> float:
    began = time.monotonic()
    for _ in range(WORKERS):
        fresh = scene.start()
        scene.await_ready(fresh)
        old = scene.workers.pop(0)
        scene.workers.append(fresh)
        code, _ = old.stop(signal.SIGTERM)
        assert code == 0, old.said()
        old.close()
        scene.await_flow(1.0)
    return began


WHATS: Final[dict[str, Callable[[Scene], float]]] = {
    "worker": worker,
    "broker": broker,
    "redis": store,
    "rolling": rolling,
}


TOGETHER: Final = (("rolling",), ("worker", "redis", "broker"))


def measure(site: Site, whats: Sequence[str], delivery: str, seed: int) -> list[Round]:
    """These one after another, on the same workers; what the audit says is with the last."""
    rounds = []
    with _scene(site, delivery) as scene:
        feed = Feed(scene.rig, seed, 0, LOAD)
        feed.start()
        for what in whats:
            scene.await_flow()
            began = WHATS[what](scene)
            scene.await_flow()
            end, gap = scene.reader.longest(began)
            one = Round(
                what=what, delivery=delivery, after=round(end - began, 2), gap=round(gap, 2)
            )
            rounds.append(one)
        sent = feed.finish(60)
        scene.rig.await_committed(sent, 60)
        for running in scene.workers:
            running.stop()
        report = judged(scene.rig, exactly_once=delivery == "exactly-once", forgotten=False)
    if report.records < sent:
        raise RuntimeError(f"{sent} sent, but only {report.records} read back: nothing is proved")
    kinds = report.kinds
    one.records, one.lost, one.repeats = (
        report.records,
        kinds.pop("lost", 0),
        report.repeats.total(),
    )
    one.doubled = kinds.pop("doubled", 0) + (one.repeats if one.what == "rolling" else 0)
    one.other, one.sent = kinds.total(), sent
    one.differences = [f"{d.kind} {d.place}: {d.detail}" for d in report.differences[:20]]
    return rounds


@contextmanager
def _scene(site: Site, delivery: str) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(site.kafka, site.store, Path(folder))
        rig.create_topics()
        reader = Reader(rig)
        reader.start()
        scene = Scene(rig, site, reader, {"kafka__delivery": delivery})
        try:
            yield scene
        finally:
            scene.close()
            reader.close()


def read(path: Path) -> list[Round]:
    """The rounds of a file."""
    return msgspec.convert(json.loads(path.read_text()), list[Round])


def table(rounds: list[Round]) -> str:
    """Medians and extremes, as Markdown. In s."""
    heads = ["what", "delivery", "rounds", "after", "longest gap", "bar", "missed"]
    heads += ["records", "lost", "doubled", "repeats"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for what, delivery in dict.fromkeys((r.what, r.delivery) for r in rounds):
        own = [r for r in rounds if (r.what, r.delivery) == (what, delivery)]
        bar = f"gap {BARS[what]:g}" if what == "rolling" else f"after {BARS[what]:g}"
        cells = [what, delivery, str(len(own)), _spread([r.after for r in own])]
        cells += [_spread([r.gap for r in own]), bar, str(sum(not r.in_time for r in own))]
        cells += [f"{sum(r.records for r in own):,}", str(sum(r.lost for r in own))]
        cells += [str(sum(r.doubled for r in own)), str(sum(r.repeats for r in own))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Recovery times, as readers see them.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--what", choices=WHATS, nargs="+", default=list(WHATS))
    parser.add_argument("--delivery", choices=("at-least-once", "exactly-once"))
    parser.add_argument("--out", type=Path, default=Path("recovery.json"))
    parser.add_argument("--table", type=Path, nargs="+", help="only sum up these files")
    given = parser.parse_args()
    if given.table:
        print(table([one for path in given.table for one in read(path)]))
        return
    modes = [given.delivery] if given.delivery else ["exactly-once", "at-least-once"]
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, one_node(Path(folder)) as site:
        for number in range(given.rounds):
            for delivery in modes:
                for together in TOGETHER:
                    whats = [what for what in together if what in given.what]
                    if not whats:
                        continue
                    for one in measure(site, whats, delivery, 1000 + number):
                        rounds.append(one)
                        print(f"{one.what}, {delivery}: after {one.after} s, gap {one.gap} s")
                    told = [{**structs.asdict(r), "ok": r.ok} for r in rounds]
                    given.out.write_text(json.dumps(told, indent=1) + "\n")
    print(table(rounds))
    sys.exit(0 if all(one.ok for one in rounds) else 1)


if __name__ == "__main__":
    main()
