"""Seeded faults under load on a real Kafka and Redis; the audit decides after each run.

    .venv/bin/python -m scripts.chaos --runs 5 --seed 1 --delivery exactly-once --out chaos.jsonl
    .venv/bin/python -m scripts.chaos --runs 40 --seed 300 --kills 20 --pause 2 --minutes 60 ...
    .venv/bin/python -m scripts.chaos --scene redis network scorer clock cluster --runs 4 ...
    .venv/bin/python -m scripts.chaos --delivery straightforward --rate 300 ...
    .venv/bin/python -m scripts.chaos --table chaos.jsonl more.jsonl

A run has a seed, from which all follows but the times at which processes happen to be ready: two to
three workers, a load with repeats, late and broken records, and a schedule of faults. Each run is a
line of JSON in --out; seeds that are there already are left out, so a series that was cut goes on.
Ends with 1 if a run lost or (exactly once) doubled a record.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from scripts.chaos.results import ONE_NODE, Result, read, table
from scripts.chaos.runs import USUAL, Pace, run
from scripts.chaos.scenes import SCENES
from scripts.chaos.straightforward import NAME

MODES: Final = ("exactly-once", "at-least-once")  # seeds in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--scene", choices=SCENES, nargs="+", default=[ONE_NODE])
    parser.add_argument("--runs", type=int, default=1, help="of each scene")
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--records", type=int, default=20_000, help="a run, at least")
    parser.add_argument("--faults", type=int, default=8, help="a run")
    parser.add_argument("--delivery", choices=(*MODES, NAME), nargs="+", default=MODES)
    parser.add_argument("--out", type=Path, default=Path("chaos.jsonl"))
    parser.add_argument("--kills", type=float, help="weight of kill -9; else as the scene has it")
    parser.add_argument("--pause", type=float, default=USUAL.pause_s, help="seconds, at most")
    parser.add_argument("--rate", type=int, help="records a second; else as the scene has it")
    parser.add_argument("--minutes", type=float, default=1e9, help="no run begins after these")
    parser.add_argument("--table", type=Path, nargs="+", help="only sum up these files")
    given = parser.parse_args()
    if given.table:
        print(table([result for path in given.table for result in read(path)]))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # workers end with us
    results: list[Result] = read(given.out) if given.out.exists() else []
    done = {(result.scene, result.seed, result.delivery) for result in results}
    pace = Pace(kills=given.kills, pause_s=given.pause, a_second=given.rate)
    until = time.monotonic() + given.minutes * 60
    modes = given.delivery
    for scene in given.scene:
        due = [
            (seed, modes[seed % len(modes)])
            for seed in range(given.seed, given.seed + given.runs)
            if (scene, seed, modes[seed % len(modes)]) not in done
        ]
        if not due or time.monotonic() > until:
            continue
        with tempfile.TemporaryDirectory() as folder, SCENES[scene].site(Path(folder)) as site:
            for seed, delivery in due:
                if time.monotonic() > until:
                    break
                result = run(scene, site, seed, delivery, given.records, given.faults, pace)
                results.append(result)
                with given.out.open("ab") as out:
                    out.write(msgspec.json.encode(result) + b"\n")
                word = "ok" if result.ok else "NOT OK"
                print(
                    f"{scene}, seed {seed}: {word}, {result.took_s} s, {dict(result.faults)}",
                    flush=True,
                )
    print(table(results))
    sys.exit(0 if all(r.ok for r in results) else 1)


if __name__ == "__main__":
    main()
