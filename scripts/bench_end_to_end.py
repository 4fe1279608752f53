"""From an event's scheduled send time to its outcome, as a reader of committed records sees it.

    .venv/bin/python scripts/bench_end_to_end.py             # both scorers, both deliveries
    .venv/bin/python scripts/bench_end_to_end.py --free 15000 --model --rounds 5 --json e2e.json

Open loop: every event has a time at which it is due, and its latency counts from then, whether or
not the producer or the worker could keep up. Real Kafka (one broker), real Redis, one worker, all
on this machine, producer and reader too: what they take, the worker lacks. Windows are full (free
scorer) or as a shop's day left them (the shipped model on the CPU).

A worker of a scorer and a delivery takes its loads one after the other, the smallest first, up to
the first that it cannot keep up with: latency grows within the stretch or has grown since the load
began, or events are left without an outcome. Rounds are interleaved, each with new workers.

Prints for each load the quantiles of all outcomes and of alerts, the cores that each part was busy
on, and where the time went (medians), the same at the end as a table of all rounds:

    sent      due -> appended to the input topic
    worked    appended -> its outcome appended, by events that were quarantined; -> its alert
    read      its outcome, or alert, appended -> read
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from scripts.benchmarks import events, scorers
from scripts.benchmarks.open_loop import PATIENCE_S, Sent, judged, read, send
from scripts.benchmarks.rig import Rig, Variant, cpu_s, save
from stream_app.core.outcome import Output
from stream_app.settings import ScorerSettings

OURS: Final = "scripts.benchmarks.worker"
LOG_TIME: Final = {"message.timestamp.type": "LogAppendTime"}
PARTS: Final = ("worker", "Redis", "broker", "sender", "reader")
HEAD: Final = (
    "| scorer | delivery | events/s | rounds kept up | outcomes p50 | p99 | alerts p50 | p99 "
    "| of an alert: sent | worked | read | cores: " + " | ".join(PARTS) + " |"
)


class Sender:
    """The process that sends what a scorer gets, in all rounds."""

    def __init__(self, context: Any, rig: Rig, scorer: str, told: argparse.Namespace) -> None:
        self._ready, self._asked, self._answers = context.Event(), context.Queue(), context.Queue()
        rates = told.free if scorer == "free" else told.model
        count = sum(int(rate * (told.warm + told.seconds)) for rate in rates)
        given = rig.kafka.address, scorer, count, told.warm, told.seconds
        asking = self._ready, self._asked, self._answers
        self.process = context.Process(target=send, args=(*given, *asking), daemon=True)
        self.process.start()

    def probe(self, topic: str) -> Any:
        """Begin with a new topic; returns what is to be set once its worker answers."""
        self._ready.clear()
        self._asked.put(topic)
        return self._ready

    def end(self) -> None:
        """Before the broker does."""
        self._asked.put(None)
        self.process.join(10.0)

    def step(self, rate: int) -> Iterator[Sent | None]:
        """Once when the stretch begins, None, and once when it is over."""
        self._asked.put(rate)
        self._answers.get(timeout=PATIENCE_S * 2)
        yield None
        yield Sent(*self._answers.get(timeout=PATIENCE_S * 2))


def main() -> None:
    told = arguments()
    asked = {"model": sorted(told.model), "free": sorted(told.free)}
    context = multiprocessing.get_context("spawn")
    found: list[dict[str, Any]] = []
    print(f"{os.cpu_count()} cores {platform.machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Rig(Path(folder), told.bundle) as rig,
    ):
        senders = {kind: Sender(context, rig, kind, told) for kind, some in asked.items() if some}
        remember(rig, set(senders))
        for round_ in range(1, told.rounds + 1):
            for kind, sender in senders.items():
                for delivery in told.delivery:
                    for one in steps(rig, context, sender, kind, delivery, asked[kind]):
                        found.append({"round": round_, **one})
                        print(line(found[-1]), flush=True)
                        if told.json:
                            told.json.write_text(json.dumps(found, indent=1) + "\n")
        for sender in senders.values():
            sender.end()
    print(f"\n{table(found)}")


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


def steps(
    rig: Rig, context: Any, sender: Sender, scorer: str, delivery: str, rates: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A worker's loads, up to the first that it cannot keep up with."""
    name, topics = rig.outputs(
        {Output.QUARANTINED: LOG_TIME, Output.ALERTS: LOG_TIME, "events": LOG_TIME}
    )
    variant = Variant("", OURS, scorer, f"{name}.events", f"e2e-{scorer}", delivery=delivery)
    seen, asked, answers = context.Value("q", 0), context.Event(), context.Queue()
    with rig.redis(variant.history) as server, rig.workers(variant, name, server) as workers:
        ready = sender.probe(variant.topic)
        reading = rig.kafka.address, name, ready, seen, asked, answers
        reader = context.Process(target=read, args=reading)
        reader.start()
        pids = [workers[0].pid, server.pid, rig.kafka.pid, sender.process.pid, reader.pid]
        parts = [psutil.Process(pid) for pid in pids]
        try:
            for rate in rates:
                stretch = sender.step(rate)
                next(stretch)
                before_s, began_s = [cpu_s([part]) for part in parts], time.monotonic()
                sent = next(stretch)
                after_s, took_s = [cpu_s([part]) for part in parts], time.monotonic() - began_s
                assert sent is not None
                began_s = time.monotonic()
                while seen.value < sent.sent and time.monotonic() - began_s < min(10.0, took_s):
                    time.sleep(0.05)  # what is late still counts
                asked.set()
                one = {"scorer": scorer, "delivery": delivery, "rate": rate}
                one |= judged(sent, answers.get(timeout=PATIENCE_S), seen.value)
                spent_s = [after - before for before, after in zip(before_s, after_s, strict=True)]
                one["cores"] = dict(zip(PARTS, (s / took_s for s in spent_s), strict=True))
                one["load"] = os.getloadavg()[0]
                yield one
                if not one["kept up"]:
                    break
        except queue.Empty:
            raise RuntimeError(
                f"no answer from the worker or those around it:\n{rig.log(name)}"
            ) from None
        finally:
            reader.kill()
    rig.forget(topics)


def line(one: dict[str, Any]) -> str:
    def told(some: dict[str, float]) -> str:
        return " / ".join(f"{some[q]:,.0f}" for q in ("p50", "p99", "max")) if some else "none"

    cores = ", ".join(f"{part} {busy:.2f}" for part, busy in one["cores"].items())
    return (
        f"round {one['round']}  {one['scorer']:5} {one['delivery']:13} {one['rate']:6,} events/s  "
        f"p50 / p99 / max ms: outcomes {told(one['outcome ms'])}, alerts {told(one['alert ms'])}; "
        f"sent {one['sent ms']:.0f}, worked {one['worked ms']:.0f}, read {one['read ms']:.0f}; "
        f"halves {one['first half p50 ms']:.0f}, {one['second half p50 ms']:.0f}; "
        f"{one['outcomes']:,} of {one['events']:,}; producer late {one['producer late p99 ms']:.1f}"
        f"; cores: {cores}; load {one['load']:.1f}{'' if one['kept up'] else '  BEHIND'}"
    )


def table(found: Sequence[dict[str, Any]]) -> str:
    """Median (least-most) of all rounds, ms; of an alert's parts and of cores medians."""
    loads = dict.fromkeys((one["scorer"], one["delivery"], one["rate"]) for one in found)
    rows = [HEAD, f"|{' --- |' * (HEAD.count('|') - 1)}"]
    for load in sorted(loads):
        own = [one for one in found if (one["scorer"], one["delivery"], one["rate"]) == load]
        kept = f"{sum(one['kept up'] for one in own)} of {len(own)}"
        cells = [load[0], load[1], f"{load[2]:,}", kept]
        cells += [
            spread(own, lambda one, of=of, q=q: one[of].get(q, float("nan")))  # type: ignore[misc]
            for of in ("outcome ms", "alert ms")
            for q in ("p50", "p99")
        ]
        for part in ("sent ms", "alert worked ms", "alert read ms"):
            cells.append(f"{statistics.median(one[part] for one in own):.0f}")
        for part in PARTS:
            cells.append(f"{statistics.median(one['cores'][part] for one in own):.2f}")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(own: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> str:
    some = sorted(map(of, own))
    return f"{statistics.median(some):,.0f} ({some[0]:,.0f}-{some[-1]:,.0f})"


if __name__ == "__main__":
    main()
