"""Seeded faults under load on a real Kafka and Redis; the audit decides after each run.

    .venv/bin/python -m scripts.chaos --runs 5 --seed 1 --delivery exactly-once --out chaos.jsonl
    .venv/bin/python -m scripts.chaos --runs 40 --seed 300 --kills 20 --pause 2 --minutes 60 ...
    .venv/bin/python -m scripts.chaos --table chaos.jsonl more.jsonl

A run has a seed, from which all follows but the times at which processes happen to be ready: two to
three workers, a load with repeats, late and broken records, and a schedule of faults. Each run is a
line of JSON in --out; seeds that are there already are left out, so a series that was cut goes on.
Ends with 1 if a run lost or (exactly once) doubled a record.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct, field

from scripts.benchmarks.events import BEGIN_MS, EVENTS_PER_MS, random_records
from scripts.benchmarks.scorers import free_encoder
from stream_app.core.audit import Difference, Report, Terms, audit
from stream_app.core.expected import Rules
from stream_app.core.outcome import Output
from stream_app.core.window import WindowPolicy
from stream_app.edges.auditing import gather
from stream_app.edges.replaying import Range
from tests.end_to_end.rig import Rig, Sent, Worker
from tests.servers import KafkaBroker, RedisServer

SESSION_S: Final = 4.0
SETTLED_S: Final = 180.0
A_SECOND: Final = 1500  # records
MOST_RECORDS: Final = 300_000  # of a run
REPEATED: Final = 0.02  # of the records come again a little later
MOST_BYTES: Final = 1 << 20
SETTINGS: Final = {
    "kafka__session_timeout_s": SESSION_S,
    "kafka__heartbeat_s": 1,
    "flow__group_records": 256,
}


class Result(Struct, kw_only=True):
    """A run, as a line of the file."""

    seed: int
    delivery: str
    records: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0  # differences that are one output too many
    repeats: int = 0  # outputs there again, as at-least-once allows
    forgotten: int = 0
    resent: int = 0  # input records that the load's own producer sent twice
    other: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    took_s: float = 0.0
    failed: str = ""  # the run did not come to its end

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.other or self.failed)


def load_of(seed: int, count: int) -> Iterator[Sent]:
    """Records of many users, some again, a few broken; a record's time is the newest event's."""
    draw = random.Random(seed)
    lately: list[Sent] = []
    for at, (user, value) in enumerate(random_records(count, seed)):
        sent = Sent(user.encode(), value, BEGIN_MS + at // EVENTS_PER_MS)
        yield sent
        lately = [*lately[-200:], sent]
        if draw.random() < REPEATED:
            yield draw.choice(lately)


class FreeWorker(Worker):
    program = ("scripts.chaos_worker",)


class Stage:
    """The workers and servers of one run, and what may happen to them."""

    def __init__(self, rig: Rig, broker: KafkaBroker, store: RedisServer, settings: Any) -> None:
        self.rig, self.broker, self.store = rig, broker, store
        self._settings = settings
        self._made = 0
        self.workers: list[Worker] = []
        self.ended: list[Worker] = []

    def start(self) -> Worker:
        self._made += 1
        worker = FreeWorker(self.rig, f"w{self._made}", **self._settings)
        self.workers.append(worker)
        return worker

    def replace_dead(self) -> int:
        """Workers that ended by themselves begin again, as a supervisor would see to it."""
        dead = [worker for worker in self.workers if worker.process.poll() is not None]
        for worker in dead:
            self._leave(worker)
            self.start()
        return len(dead)

    def _leave(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.close()
        self.ended.append(worker)

    def kill(self, draw: random.Random) -> None:
        worker = draw.choice(self.workers)
        worker.process.kill()
        worker.process.wait(30)
        self._leave(worker)
        self.start()

    def terminate(self, draw: random.Random) -> None:
        worker = draw.choice(self.workers)
        worker.process.send_signal(signal.SIGTERM)
        self.start()
        worker.process.wait(60)
        self._leave(worker)

    def zombie(self, draw: random.Random) -> None:
        """Asleep for longer than the session, while another takes over; then it wakes up."""
        worker = draw.choice(self.workers)
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION_S + draw.uniform(1.0, 3.0))
        worker.process.send_signal(signal.SIGCONT)

    def storm(self, draw: random.Random) -> None:
        """Workers come and go: a rebalance each time."""
        joined = [self.start() for _ in range(2)]
        time.sleep(draw.uniform(2.0, 5.0))
        for worker in joined:
            worker.process.send_signal(signal.SIGTERM)
        for worker in joined:
            worker.process.wait(60)
            self._leave(worker)

    def broker_kill(self, draw: random.Random) -> None:
        self.broker.kill()
        time.sleep(draw.uniform(0.0, 1.0))
        self.broker.start()

    def redis_restart(self, draw: random.Random) -> None:
        """With its data: it writes every change to disk before it answers."""
        self.store.kill()
        time.sleep(draw.uniform(0.0, 1.0))
        self.store.start()

    def redis_flush(self, draw: random.Random) -> None:
        self._redis().flushall()

    def script_flush(self, draw: random.Random) -> None:
        self._redis().script_flush()

    def redis_cut(self, draw: random.Random) -> None:
        """Every connection of every worker breaks."""
        self._redis().client_kill_filter(_type="normal", skipme=True)

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.store.url)

    def close(self) -> None:
        for worker in [*self.workers]:
            worker.process.send_signal(signal.SIGCONT)
            self._leave(worker)


FAULTS: Final[dict[str, Callable[[Stage, random.Random], None]]] = {
    "kill": Stage.kill,
    "terminate": Stage.terminate,
    "zombie": Stage.zombie,
    "storm": Stage.storm,
    "broker-kill": Stage.broker_kill,
    "redis-restart": Stage.redis_restart,
    "redis-flush": Stage.redis_flush,
    "script-flush": Stage.script_flush,
    "redis-cut": Stage.redis_cut,
}
WEIGHTS: Final = (6, 2, 3, 1, 2, 2, 0, 1, 1)  # of FAULTS; a flush only in runs that are for it


class Pace(Struct, frozen=True, kw_only=True):
    """How dense the faults are."""

    kills: float = WEIGHTS[0]  # weight of a worker's kill -9 among the faults
    pause_s: float = 3.0  # at most, between two faults


USUAL: Final = Pace()


def run(
    seed: int,
    delivery: str,
    records: int,
    faults: int,
    broker: KafkaBroker,
    store: RedisServer,
    pace: Pace = USUAL,
) -> Result:
    """One run to its end, and what the audit says."""
    draw = random.Random(seed)
    began, result = time.monotonic(), Result(seed=seed, delivery=delivery)
    forgets = draw.random() < 0.2
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(broker, store, Path(folder))
        rig.create_topics()
        stage = Stage(rig, broker, store, {**SETTINGS, "kafka__delivery": delivery})
        feed = Feed(rig, seed, records)
        try:
            for _ in range(draw.choice([2, 3])):
                stage.start()
            feed.start()
            _await_progress(rig)
            for _ in range(faults):
                own = {"redis-flush": forgets, "kill": pace.kills}
                weights = [own.get(name, weight) for name, weight in _weighted()]
                name = draw.choices(list(FAULTS), weights)[0]
                FAULTS[name](stage, draw)
                result.faults[name] += 1
                time.sleep(draw.uniform(0.3, pace.pause_s))
                result.faults["ended by itself"] += stage.replace_dead()
            feed.enough.set()
            feed.join(SETTLED_S)
            result.records = feed.sent
            _settle(stage, result)
            _judge(rig, result, delivery)
        except Exception:
            result.failed = traceback.format_exc(limit=4)
            for worker in [*stage.workers, *stage.ended][:4]:
                result.failed += "\n--\n" + worker.said()[-1500:]
        finally:
            stage.close()
    result.took_s = round(time.monotonic() - began, 1)
    return result


def _weighted() -> list[tuple[str, float]]:
    return list(zip(FAULTS, WEIGHTS, strict=True))


class Feed(threading.Thread):
    """Sends `records` at an even pace, and goes on until `enough` is set."""

    def __init__(self, rig: Rig, seed: int, records: int) -> None:
        super().__init__(daemon=True)
        self._rig, self._seed, self._least = rig, seed, records
        self.enough = threading.Event()
        self.sent = 0

    def run(self) -> None:
        patient = {"delivery.timeout.ms": 300_000, "log_level": 0}
        self.sent = self._rig.produce(self._paced(), None, **dict[str, object](patient))

    def _paced(self) -> Iterator[Sent]:
        began = time.monotonic()
        for at, record in enumerate(load_of(self._seed, MOST_RECORDS)):
            if at >= self._least and self.enough.is_set():
                return
            if at % 50 == 0:
                time.sleep(max(0.0, began + at / A_SECOND - time.monotonic()))
            yield record


def _await_progress(rig: Rig) -> None:
    """Until the first records are through: what breaks before that breaks nothing."""
    until = time.monotonic() + SETTLED_S
    while rig.committed() == 0:
        if time.monotonic() > until:
            raise TimeoutError("no worker got to work")
        time.sleep(0.2)


def _settle(stage: Stage, result: Result) -> None:
    """Until all is committed; then every worker ends in order."""
    until = time.monotonic() + SETTLED_S
    while (done := stage.rig.committed()) < result.records:
        if time.monotonic() > until:
            raise TimeoutError(f"only {done} of {result.records} committed")
        result.faults["ended by itself"] += stage.replace_dead()
        time.sleep(0.5)
    for worker in stage.workers:
        worker.process.send_signal(signal.SIGTERM)
    for worker in stage.workers:
        worker.process.wait(60)


def judged(rig: Rig, *, exactly_once: bool, forgotten: bool) -> Report:
    """What the audit says of a rig's topics, once all is committed."""
    found = gather(
        {"bootstrap.servers": rig.kafka.address},
        rig.name,
        Range(topic=rig.input),
        {output: rig.topic(output) for output in Output},
    )
    rules = Rules(tasks=free_encoder().schema.tasks, windows=WindowPolicy(), most_bytes=MOST_BYTES)
    terms = Terms(exactly_once=exactly_once, forgotten=forgotten)
    return audit(found.inputs, found.outputs, rules, terms)


def _judge(rig: Rig, result: Result, delivery: str) -> None:
    forgotten = "redis-flush" in result.faults
    report = judged(rig, exactly_once=delivery == "exactly-once", forgotten=forgotten)
    kinds = report.kinds
    if report.records < result.records:
        raise AssertionError(f"{result.records} sent, {report.records} in the topic")
    # A broker that was killed forgets producers: ours may have sent some again, as others would.
    result.resent, result.records = report.records - result.records, report.records
    result.lost, result.doubled = kinds.pop("lost", 0), kinds.pop("doubled", 0)
    result.repeats, result.forgotten = report.repeats.total(), report.forgotten
    result.outcomes, result.other = report.outcomes, kinds
    result.differences = report.differences[:20]


def read(path: Path) -> list[Result]:
    """The results in a file of runs."""
    decoder = msgspec.json.Decoder(Result, dec_hook=lambda kind, value: kind(value))
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def table(results: list[Result]) -> str:
    """The sums, by delivery, as Markdown."""
    heads = ["delivery", "runs", "records", "kill -9", "SIGTERM", "zombies", "storms"]
    heads += ["broker kills", "Redis restarts", "flushed", "cut", "lost", "doubled"]
    heads += ["repeats", "other", "unfinished"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for delivery in sorted({r.delivery for r in results}):
        own = [r for r in results if r.delivery == delivery]
        faults = sum((r.faults for r in own), Counter[str]())
        cells = [len(own), sum(r.records for r in own if not r.failed)]  # judged ones
        cells += [faults[name] for name in ("kill", "terminate", "zombie", "storm")]
        cells += [faults[name] for name in ("broker-kill", "redis-restart", "redis-flush")]
        cells += [faults["redis-cut"], sum(r.lost for r in own), sum(r.doubled for r in own)]
        cells += [sum(r.repeats for r in own), sum(r.other.total() for r in own)]
        cells += [sum(bool(r.failed) for r in own)]
        lines.append(f"| {delivery} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--records", type=int, default=20_000, help="a run")
    parser.add_argument("--faults", type=int, default=8, help="a run")
    parser.add_argument("--delivery", choices=("at-least-once", "exactly-once", "both"))
    parser.add_argument("--out", type=Path, default=Path("chaos.jsonl"))
    parser.add_argument("--kills", type=float, default=USUAL.kills, help="weight of kill -9")
    parser.add_argument("--pause", type=float, default=USUAL.pause_s, help="seconds, at most")
    parser.add_argument("--minutes", type=float, default=1e9, help="no run begins after these")
    parser.add_argument("--table", type=Path, nargs="+", help="only sum up these files")
    given = parser.parse_args()
    if given.table:
        print(table([result for path in given.table for result in read(path)]))
        return
    results: list[Result] = read(given.out) if given.out.exists() else []
    done = {(result.seed, result.delivery) for result in results}
    pace = Pace(kills=given.kills, pause_s=given.pause)
    until = time.monotonic() + given.minutes * 60
    modes = ["exactly-once", "at-least-once"]
    modes = modes if given.delivery in (None, "both") else [given.delivery]
    with tempfile.TemporaryDirectory() as folder:
        store = RedisServer(Path(folder, "redis"), {"appendonly": "yes", "appendfsync": "always"})
        with KafkaBroker(Path(folder, "kafka")) as broker, store:
            for seed in range(given.seed, given.seed + given.runs):
                delivery = modes[seed % len(modes)]
                if (seed, delivery) in done or time.monotonic() > until:
                    continue
                result = run(seed, delivery, given.records, given.faults, broker, store, pace)
                results.append(result)
                with given.out.open("ab") as out:
                    out.write(msgspec.json.encode(result) + b"\n")
                word = "ok" if result.ok else "NOT OK"
                print(f"seed {seed}: {word}, {result.took_s} s, {dict(result.faults)}", flush=True)
    print(table(results))
    sys.exit(0 if all(r.ok for r in results) else 1)


if __name__ == "__main__":
    main()
