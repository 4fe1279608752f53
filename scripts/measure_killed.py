"""Workers with a real model that are killed and stopped: do they score as a file is scored?

    .venv/bin/python -m scripts.measure_killed --model FOLDER --runs 8

`scripts.chaos` tries delivery with a scorer that costs nothing; this tries scores, of models that
read the site's side or counters, too. Simulated events in one partition, as the order of a file is
that of one; two workers, exactly once. Every few seconds one gets kill -9, or stands still for
longer than its session, so that it comes back as a zombie. Every outcome is compared with what
`shopsentry score` says of its event. Real Kafka, real Redis. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from models.simulate.shop import SimulationConfig, write
from stream_app.core.outcome import Output
from stream_app.offline import Judged
from stream_app.settings import Settings
from stream_app.wiring import offline_scorer
from tests.end_to_end.rig import Rig, Sent, Worker, headers_of
from tests.servers import KafkaBroker, RedisServer

TOLERANCE = 1e-4
SESSION_S = 6
STILL_S = 9.0  # longer than a session
KILLS = 0.6  # of faults; the others stand still
DAY_MS = 24 * 3600 * 1000


class Told(Struct, kw_only=True):
    """What became of a run."""

    records: int
    kills: int = 0
    stops: int = 0
    missing: int = 0
    doubled: int = 0
    other: int = 0  # scores or decisions that are not the file's


def judged(model: Path, lines: Sequence[bytes]) -> dict[str, Judged]:
    """What the file's scoring says, by event id."""
    chosen = {"scorer": {"device": "cpu", "threads": 1, "bundle": model}}
    scorer = offline_scorer(Settings.model_validate(chosen))

    async def score() -> dict[str, Judged]:
        return {one.event_id: one async for group in scorer.score(lines) for one in group}

    return asyncio.run(score())


def run(
    folder: Path, model: Path, lines: Sequence[bytes], expected: Mapping[str, Judged], seed: int
) -> Told:
    dice, told = random.Random(seed), Told(records=len(lines))
    with RedisServer(folder / "redis") as redis, KafkaBroker(folder / "kafka") as kafka:
        rig = Rig(kafka, redis, folder)
        rig.partitions = 1
        rig.create_topics()
        events = [json.loads(line) for line in lines]
        rig.produce(
            Sent(event["user_id"].encode(), line, event["event_time"])
            for event, line in zip(events, lines, strict=True)
        )
        pair = [_worker(rig, model, number) for number in range(2)]
        try:
            while rig.committed() < len(lines):
                time.sleep(dice.uniform(3.0, 9.0))
                which = dice.randrange(len(pair))
                if dice.random() < KILLS:
                    told.kills += 1
                    pair[which].kill()
                else:
                    told.stops += 1
                    pair[which].process.send_signal(signal.SIGSTOP)
                    time.sleep(STILL_S)
                    pair[which].process.send_signal(signal.SIGCONT)
                for at, worker in enumerate(pair):
                    if worker.process.poll() is not None:
                        rig.workers[:] = [one for one in rig.workers if one is not worker]
                        pair[at] = _worker(rig, model, 2 + told.kills + told.stops)
        finally:
            for worker in pair:
                worker.close()
        _compare(rig, expected, told)
    return told


def _worker(rig: Rig, model: Path, number: int) -> Worker:
    return Worker(
        rig,
        f"worker-{number}",
        scorer__bundle=model,
        kafka__delivery="exactly-once",
        kafka__session_timeout_s=SESSION_S,
        flow__group_records=200,
    )


def _compare(rig: Rig, expected: Mapping[str, Judged], told: Told) -> None:
    seen: set[str] = set()
    for output, anomalous in ((Output.CLEANED, False), (Output.QUARANTINED, True)):
        for read in rig.read(output):
            name = json.loads(read.value or b"")["event_id"]
            told.doubled += name in seen
            seen.add(name)
            score, own = float(headers_of(read)["shopsentry-score"]), expected[name]
            told.other += abs(score - own.score) > TOLERANCE or own.anomalous is not anomalous
    told.missing = len(expected.keys() - seen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of workers that are killed.")
    parser.add_argument("--model", type=Path, required=True, help="folder of a bundle")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--events", type=int, default=14_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "events.jsonl", Path(folder) / "labels.jsonl"
        write(SimulationConfig(seed=5, events=given.events, span_ms=7 * DAY_MS), *files)
        lines = files[0].read_bytes().splitlines()
        expected = judged(given.model, lines)
        found = []
        for seed in range(given.seed, given.seed + given.runs):
            own = Path(folder) / str(seed)
            own.mkdir()
            found.append(run(own, given.model, lines, expected, seed))
            print(f"seed {seed}: {found[-1]}", flush=True)
    if any(one.missing or one.doubled or one.other for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
