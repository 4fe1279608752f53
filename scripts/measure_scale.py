"""How whole workers scale: events a second and CPU an event by workers, Redis servers, partitions.

    .venv/bin/python -m scripts.measure_scale [--rounds 3] [--seconds 6] [--json FILE]

Variant 4 of `scripts/bench` on one Kafka broker: the product's worker, a scorer that costs nothing,
records of 210 bytes, full logs. As many workers as the machine has cores for, in one group with one
Redis, then on several (a worker knows one Redis, so each has a group of its own); one worker on
more and more partitions. One thing grows at a time; all settings take turns within a round. The
cores that each part was busy on tell what bounds a rate. Servers keep their files in TMPDIR: a disk
whose first write into a new file takes long is measured too, as each run has new output topics.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from scripts.benchmarks.rig import Rig
from scripts.benchmarks.scale import Run, Scale, Setting
from stream_app.settings import ScorerSettings

SPREAD: Final = 48  # partitions for 1, 2, 4, 8 or 12 workers, on 1, 2 or 4 Redis servers
SHARED: Final = 8  # workers on several Redis servers: 16 cores hold all parts of that
# Workers that start together join together, not one by one; Kafka's default is 3 s.
TOGETHER: Final = {"group.initial.rebalance.delay.ms": "1500"}
HEAD: Final = (
    "| workers | Redis servers | partitions | events/s | worker, us | Redis, us | broker, us "
    "| cores: each worker | each Redis | broker | machine |"
)


def plan(given: argparse.Namespace) -> dict[str, list[Setting]]:
    """What grows, and its settings."""
    most = max(given.workers)
    shared = min(most, SHARED)
    grows = {
        "workers": [Setting(workers=n, partitions=SPREAD) for n in given.workers],
        "servers": [Setting(workers=shared, servers=n, partitions=SPREAD) for n in given.servers],
        "partitions": [Setting(partitions=n) for n in given.partitions],
        "exactly once": [
            Setting(workers=n, partitions=SPREAD, delivery="exactly-once")
            for n in given.exactly_once
        ],
    }
    if given.servers:
        grows["all"] = [Setting(workers=most, servers=max(given.servers), partitions=SPREAD)]
    return grows


def spread(runs: Sequence[Run], of: Callable[[Run], float], form: str) -> str:
    some = sorted(map(of, runs))
    return f"{statistics.median(some):{form}} ({some[0]:{form}}-{some[-1]:{form}})"


def line(setting: Setting, runs: Sequence[Run]) -> str:
    cells = [f"{setting.workers}{', exactly once' * (setting.delivery == 'exactly-once')}"]
    cells += [str(setting.servers), str(setting.partitions)]
    cells.append(spread(runs, lambda run: run.rate, ",.0f"))
    for us in (lambda r: r.worker_us, lambda r: r.redis_us, lambda r: r.broker_us):
        cells.append(spread(runs, us, ".1f"))
    busy: list[Callable[[Run], float]] = [
        lambda r: r.cores(r.worker_us) / setting.workers,
        lambda r: r.cores(r.redis_us) / setting.servers,
        lambda r: r.cores(r.broker_us),
        lambda r: r.machine_cores,
    ]
    cells += [f"{statistics.median(map(of, runs)):.2f}" for of in busy]
    return f"| {' | '.join(cells)} |"


def law(what: str, settings: Sequence[Setting], runs: Sequence[Run]) -> str:
    """How rate and CPU an event grow with it, as powers."""
    own = [[run for run in runs if run.setting == setting] for setting in settings]
    grown = np.log([float(getattr(setting, what)) for setting in settings])
    rates = [statistics.median(run.rate for run in some) for some in own]
    costs = [statistics.median(run.cpu_us for run in some) for some in own]
    rate, cost = (np.polyfit(grown, np.log(values), 1)[0] for values in (rates, costs))
    return f"{what}: events/s ~ x^{rate:.2f}, CPU us an event of all parts ~ x^{cost:.2f}"


def main() -> None:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a run, measured")
    parser.add_argument("--events", type=int, default=1_500_000, help="of each backlog")
    numbers: dict[str, Sequence[int]] = {
        "--workers": [n for n in (1, 2, 4, 8, 12) if n <= max(cores - 2, 2)],
        "--servers": [1, 2, 4] if cores > 8 else [],
        "--partitions": [1, 4, 16, 64],
        "--exactly-once": [],
    }
    for name, usual in numbers.items():
        parser.add_argument(name, type=int, nargs="*", default=usual, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs to FILE too")
    given = parser.parse_args()
    grows = plan(given)
    settings = list(dict.fromkeys(one for some in grows.values() for one in some))
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="scale-") as folder,
        Rig(Path(folder), ScorerSettings().bundle, TOGETHER) as rig,
    ):
        scale, began = Scale(rig), time.monotonic()
        scale.fill(dict.fromkeys([setting.each for setting in settings], given.events))
        print(f"prepared in {time.monotonic() - began:.0f} s", flush=True)
        for number in range(1, given.rounds + 1):
            for setting in settings:
                now_s = time.monotonic() - began
                try:
                    runs.append(scale.run(setting, given.seconds))
                except RuntimeError as error:  # the others are as good without it
                    print(f"{now_s:4.0f} s, round {number} {setting} failed: {error}", flush=True)
                    continue
                print(f"{now_s:4.0f} s, round {number} {line(setting, runs[-1:])}", flush=True)
                if given.json is not None:  # each time: a run that fails leaves those before it
                    told = {"cores": cores, "runs": msgspec.to_builtins(runs)}
                    given.json.write_text(json.dumps(told, indent=1) + "\n")
    print(f"\n{HEAD}\n|{' --- |' * (HEAD.count('|') - 1)}")
    for setting in settings:
        if own := [run for run in runs if run.setting == setting]:
            print(line(setting, own))
    for what in ("workers", "servers", "partitions"):
        ran = [one for one in grows[what] if any(run.setting == one for run in runs)]
        if len(ran) > 1:
            print(law(what, ran, runs))


if __name__ == "__main__":
    main()
