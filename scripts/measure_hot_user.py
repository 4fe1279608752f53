"""What one user with half of all traffic costs: rate and memory beside those of even users.

    .venv/bin/python -m scripts.measure_hot_user --rounds 3

The benchmark's worker with a scorer that costs nothing, from a backlog on four partitions, in turn:
users drawn evenly; one of them with every other event, all of which meet in one partition.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from scripts.benchmarks.events import USERS, random_records, user_name
from scripts.benchmarks.rig import Rig, Run, Variant
from stream_app.settings import ScorerSettings

WORKER: Final = "scripts.benchmarks.worker"
HOT: Final = user_name(USERS)
EVEN_USERS = Variant("even users", WORKER, "free", "even", "even")
HOT_USER = Variant("a hot user", WORKER, "free", "hot", "hot")


def records(count: int, hot: bool) -> Iterator[tuple[str, bytes]]:
    """Users and values; names are of one length, so the values are, too."""
    draw = random.Random(1)
    for at, (user, value) in enumerate(random_records(count)):
        mine = HOT if hot and at % 2 else user_name(draw.randrange(USERS))
        yield mine, value.replace(user.encode(), mine.encode())


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=400_000, help="in each backlog")
    given = parser.parse_args()
    runs: dict[Variant, list[Run]] = {EVEN_USERS: [], HOT_USER: []}
    with (
        tempfile.TemporaryDirectory(prefix="hot-") as folder,
        Rig(Path(folder), ScorerSettings().bundle) as rig,
    ):
        for variant in runs:
            rig.fill(variant.topic, records(given.events, variant is HOT_USER))
        for number in range(1, given.rounds + 1):
            for variant, some in runs.items():
                some.append(rig.run(variant, given.events // 8, given.events * 3 // 4))
                told = f"{some[-1].rate:,.0f} events/s, {some[-1].worker_mib:,.0f} MiB"
                print(f"round {number}  {variant.name:12} {told}", flush=True)
    for variant, some in runs.items():
        rates, memory = [run.rate for run in some], [run.worker_mib for run in some]
        print(f"{variant.name:12} {spread(rates)} events/s, {spread(memory)} MiB")
    pairs = zip(runs[HOT_USER], runs[EVEN_USERS], strict=True)
    ratios = spread([hot.rate / even.rate for hot, even in pairs], ".2f")
    print(f"hot against even, round by round: {ratios}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
