"""Command line of the benchmark, and its table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from scripts.benchmarks import events, scorers
from scripts.benchmarks.rig import Rig, Run, Variant, save
from stream_app.settings import ScorerSettings
from tests.servers import ROOT

OURS, THEIRS = "scripts.benchmarks.worker", "scripts.yardstick.worker"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
RANDOM, DAY, FEW = "bench.random", "bench.day", "bench.few"  # input topics
MODEL_SIMPLE = Variant("1 straightforward, model", THEIRS, "model", DAY, "day-sets")
MODEL_OURS = Variant("2 shopsentry, model", OURS, "model", DAY, "day-logs")
FREE_SIMPLE = Variant("3 straightforward, free scorer", THEIRS, "free", RANDOM, "sets")
FREE_OURS = Variant("4 shopsentry, free scorer", OURS, "free", RANDOM, "logs")
FREE_TWO = Variant("5 shopsentry, free, two workers", OURS, "free", RANDOM, "logs", workers=2)
FREE_ONCE = Variant(
    "6 shopsentry, free, exactly once", OURS, "free", RANDOM, "logs", delivery="exactly-once"
)
FREE_CONTEXT = Variant(
    "7 shopsentry, free, site context", OURS, "free", RANDOM, "context-logs", schema="shop-context"
)
QUIX = Variant(
    "8 Quix Streams, free scorer",
    "scripts.peers.quix_worker",
    "free",
    RANDOM,
    "packed",
    python=PEERS,
)
BYTEWAX = Variant(
    "9 Bytewax, free scorer", "scripts.peers.bytewax_worker", "free", RANDOM, "packed", python=PEERS
)
QUIX_TWO = replace(QUIX, name="A Quix Streams, free, two workers", workers=2)
BYTEWAX_TWO = replace(BYTEWAX, name="B Bytewax, free, two workers", workers=2)
QUIX_STATE = replace(
    QUIX,
    name="C Quix Streams, free, its own state",
    module="scripts.peers.quix_state_worker",
    history="empty",
)
QUIX_SETS = replace(
    QUIX, name="D Quix Streams, free, sorted sets", history="sets", windows="sorted-sets"
)
BYTEWAX_SETS = replace(
    BYTEWAX, name="E Bytewax, free, sorted sets", history="sets", windows="sorted-sets"
)
FEW_EVENTS = 20_000  # of which 8 and 9 must tell the same as 4


def prepare(rig: Rig, backlog: int, day: int, variants: Sequence[Variant]) -> None:
    """The topics that these read, and the Redis servers that their workers start from."""
    encoder, context = scorers.free_encoder(), scorers.free_encoder("shop-context")
    shop = events.Shop(day, day)
    topics = {variant.topic for variant in variants}
    if RANDOM in topics:
        rig.fill(RANDOM, events.random_records(backlog))
    if DAY in topics:
        rig.fill(DAY, shop.records())
    histories: list[tuple[str, Callable[[], Iterator[events.History]]]] = [
        ("", lambda: events.full_logs(encoder, RANDOM)),
        ("day-", lambda: shop.history(encoder, DAY)),
        ("context-", lambda: events.full_logs(context, RANDOM)),
    ]
    starts = {variant.history for variant in variants}
    for kind, history in histories:
        if f"{kind}logs" in starts:
            with rig.redis(f"{kind}logs") as server:
                rows_of = context if kind == "context-" else encoder
                events.remember(server.url, rows_of, history())
                save(server)
        if f"{kind}sets" in starts:
            with rig.redis(f"{kind}sets") as server:
                events.remember_simply(server.url, history())
                save(server)
    if "packed" in starts:
        with rig.redis("packed") as server:
            events.remember_packed(server.url, events.full_logs(encoder, RANDOM))
            save(server)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Events a second.")
    parser.add_argument("--rounds", type=int, default=3, help="of each variant")
    parser.add_argument(
        "--events", type=int, default=1_200_000, help="in the backlog of the free scorer"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: does it run?")
    parser.add_argument("--two-workers", action="store_true", help="two workers too")
    parser.add_argument(
        "--only",
        default="1234",
        help="variants by number: 34 (free scorer), 46 (both deliveries), 47 (site context), "
        "489AB (other engines, alone and in twos), C (Quix with its own state), "
        "DE (8 and 9 with sorted sets)",
    )
    parser.add_argument("--stages", action="store_true", help="where (4)'s time goes, a run more")
    bundle = ScorerSettings().bundle
    parser.add_argument("--bundle", type=Path, default=bundle, help="the model; else as shipped")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs to FILE too")
    given = parser.parse_args()
    rounds, backlog = (1, 300_000) if given.quick else (given.rounds, given.events)
    day = 20_000 if given.quick else 60_000

    # variant, events of warm-up, events measured
    plan = [
        (MODEL_SIMPLE, 500, 1_000 if given.quick else 4_000),
        (MODEL_OURS, 4_000, 8_000 if given.quick else 40_000),
        (FREE_SIMPLE, 1_000, 3_000 if given.quick else 10_000),
        (FREE_OURS, backlog // 8, backlog * 3 // 4),
        (FREE_ONCE, backlog // 8, backlog * 3 // 4),
        (FREE_CONTEXT, backlog // 8, backlog * 3 // 4),
        (QUIX, backlog // 16, backlog // 2),
        (BYTEWAX, backlog // 16, backlog // 2),
        (QUIX_TWO, backlog // 8, backlog // 2),
        (BYTEWAX_TWO, backlog // 8, backlog // 2),
        (QUIX_STATE, backlog // 16, backlog // 8),
        (QUIX_SETS, backlog // 16, backlog // 4),
        (BYTEWAX_SETS, backlog // 16, backlog // 4),
    ]
    plan = [entry for entry in plan if entry[0].name[0] in given.only]
    if given.two_workers:
        plan.append((FREE_TWO, backlog // 4, backlog // 2))
    peers = [variant for variant, _, _ in plan if variant.python == PEERS]
    if peers:
        subprocess.run([ROOT / "scripts" / "setup", "peers"], check=True)
    runs: list[Run] = []
    print(_machine(), flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Rig(Path(folder), given.bundle) as rig,
    ):
        began = time.monotonic()
        prepare(rig, backlog, day, [variant for variant, _, _ in plan])
        print(f"prepared in {time.monotonic() - began:.0f} s\n", flush=True)
        if peers:
            print(f"{_same_outcomes(rig, peers)}\n", flush=True)
        for number in range(1, rounds + 1):
            for variant, warm, measured in plan:
                run = rig.run(variant, warm, measured)
                runs.append(run)
                print(f"round {number}  {_line(run)}", flush=True)
        if MODEL_OURS in rig.scores and MODEL_SIMPLE in rig.scores:
            print("\n" + _agreement(rig.scores[MODEL_OURS], rig.scores[MODEL_SIMPLE]))
        if given.stages:
            run = rig.run(FREE_OURS, backlog // 8, backlog * 3 // 4, stages=True)
            print(f"\nwith timers  {_line(run)}\n" + _stage_table(run))
            runs.append(replace(run, variant=run.variant + ", with timers"))
    print("\n" + _table(runs))
    if given.json is not None:
        told = {"machine": _machine(), "runs": msgspec.to_builtins(runs)}
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def _machine() -> str:
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores {platform.machine()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def _line(run: Run) -> str:
    return (
        f"{run.variant:40} {run.rate:8,.0f} events/s  CPU us each: worker "
        f"{run.worker_us:6.1f} Redis {run.redis_us:5.1f} broker {run.broker_us:5.1f}"
        f"  {run.worker_mib:,.0f} MiB  load {run.load:.1f}"
    )


def _agreement(ours: dict[bytes, float], simple: dict[bytes, float]) -> str:
    """Late events differ on purpose: ours scores each as of itself, (1) the user's newest."""
    both = ours.keys() & simple.keys()
    alike = sum(abs(ours[value] - simple[value]) < 0.005 for value in both)
    return f"(1) and (2) score {alike} of {len(both)} events alike, to 0.005"


def _same_outcomes(rig: Rig, peers: Sequence[Variant]) -> str:
    """Raises unless these make of each of a few records what (4) makes of it."""
    count = rig.fill(FEW, events.random_records(FEW_EVENTS, seed=2))
    ours, *theirs = (
        rig.outcomes(replace(variant, topic=FEW, history="empty"), count)
        for variant in (FREE_OURS, *peers)
    )
    for variant, told in zip(peers, theirs, strict=True):
        if told != ours:
            odd = (told - ours) + (ours - told)
            raise RuntimeError(f"{variant.name} differs from (4): {odd.most_common(5)}")
    names = " and ".join(f"({variant.name[0]})" for variant in peers)
    ends = Counter(output for _, output in ours.elements())
    told_of = ", ".join(f"{ends[output]:,} {output}" for output in sorted(ends))
    return f"{names} and (4) make the same of {count:,} records: {told_of}"


def _stage_table(run: Run) -> str:
    ordered = sorted(run.stages_us.items(), key=lambda item: -item[1])
    return "\n".join(f"  {us:6.2f} us  {name}" for name, us in ordered if us >= 0.005)


def _spread(values: Sequence[float], form: str) -> str:
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}}-{max(values):{form}})"


def _table(runs: Sequence[Run]) -> str:
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.variant, []).append(run)
    lines = ["median (min-max) of events/s; CPU us an event: worker, Redis, broker"]
    for name, some in by_name.items():
        cpu = ", ".join(
            _spread([getattr(r, f"{part}_us") for r in some], ".1f")
            for part in ("worker", "redis", "broker")
        )
        lines.append(f"{name:40} {_spread([r.rate for r in some], ',.0f'):28} {cpu}")
    for ours, simple in (
        (MODEL_OURS, MODEL_SIMPLE),
        (FREE_OURS, FREE_SIMPLE),
        (FREE_ONCE, FREE_OURS),
        (FREE_CONTEXT, FREE_OURS),
        (FREE_OURS, QUIX),
        (FREE_OURS, BYTEWAX),
        (FREE_OURS, QUIX_TWO),
        (FREE_OURS, BYTEWAX_TWO),
        (FREE_OURS, QUIX_STATE),
        (FREE_OURS, QUIX_SETS),
        (FREE_OURS, BYTEWAX_SETS),
    ):
        pairs = list(zip(by_name.get(ours.name, []), by_name.get(simple.name, []), strict=False))
        if pairs:
            rates = _spread([a.rate / b.rate for a, b in pairs], ".2f")
            cpu = _spread([b.cpu_us / a.cpu_us for a, b in pairs], ".2f")
            lines.append(
                f"({ours.name[0]}) against ({simple.name[0]}), round by round: "
                f"{rates} times the rate; {cpu} times less CPU an event, servers included"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
