"""Malformed records among valid ones, through a real worker: each buried for its reason.

    .venv/bin/python -m scripts.malformed --records 100000

Every malformed record has a kind, and every kind its reason; between two of them stands a valid
record. Afterwards the dead letters are compared with what was sent, one by one, and the audit looks
at all the rest. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benchmarks.events import BEGIN_MS
from scripts.chaos.kinds import KINDS, RARE
from scripts.chaos.runs import judged
from scripts.chaos.stage import FreeWorker
from stream_app.core.outcome import Output
from tests.end_to_end.rig import Rig, Sent, headers_of
from tests.servers import KafkaBroker, RedisServer

USERS: Final = 997


def feed(seed: int, malformed: int) -> Iterator[tuple[Sent, str | None]]:
    """A valid record, then a malformed one with its kind, and so on; a valid one ends it."""
    draw = random.Random(seed)
    names = list(KINDS)
    weights = [RARE.get(name, 1.0) for name in names]
    for at in range(malformed + 1):
        at_ms = BEGIN_MS + at * 10
        user = f"u{at % USERS}"
        event = {"event_id": f"v{at}", "user_id": user, "type": "click", "event_time": at_ms}
        event |= {"item_id": "i1"}
        yield Sent(user.encode(), json.dumps(event).encode(), at_ms), None
        if at == malformed:
            return
        name = names[at] if at < len(names) else draw.choices(names, weights)[0]
        kind = KINDS[name]
        bad = {**event, "event_id": f"m{at}"}
        value, key = kind.make(bad, draw), kind.key or user.encode()
        yield Sent(key, value, at_ms, None, [("kind", name.encode())]), name


def run(rig: Rig, seed: int, malformed: int) -> tuple[Counter[str], list[str]]:
    """Dead letters by reason, and what differs, in words."""
    rig.create_topics()
    sent = list(feed(seed, malformed))
    worker = FreeWorker(rig)
    try:
        count = rig.produce(record for record, _ in sent)
        rig.await_committed(count, 900)
        worker.await_ready()
        code, _ = worker.stop()
    finally:
        worker.close()
    trouble = [] if code == 0 else [f"the worker ended with {code}"]
    reasons: Counter[str] = Counter()
    buried: Counter[tuple[str, bytes | None, bytes | None]] = Counter()
    for letter in rig.read(Output.DEAD_LETTERS):
        told = headers_of(letter)
        reasons[told["reason"]] += 1
        buried[told.get("kind", ""), letter.key, letter.value] += 1
        if told["reason"] != KINDS[told["kind"]].reason:
            trouble.append(f"{told['kind']}: {told['reason']} ({told['detail']})")
    wanted = Counter((name, r.key, r.value) for r, name in sent if name is not None)
    trouble += [f"not buried as sent: {one[0]}" for one in (wanted - buried)]
    trouble += [f"buried, but not sent: {one[0]}" for one in (buried - wanted)]
    passed = Counter(r.value for k in (Output.CLEANED, Output.QUARANTINED) for r in rig.read(k))
    if passed != Counter(record.value for record, name in sent if name is None):
        trouble.append("the valid records did not all pass, once each")
    report = judged(rig, exactly_once=True, forgotten=False)
    trouble += [f"{d.kind} {d.place}: {d.detail}" for d in report.differences]
    return reasons, trouble


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000, help="malformed ones")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder, "redis")) as store,
        KafkaBroker(Path(folder, "kafka")) as broker,
    ):
        reasons, trouble = run(Rig(broker, store, Path(folder)), given.seed, given.records)
    print(f"{given.records:,} malformed records of {len(KINDS)} kinds, as many valid ones")
    print(", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()))
    print("\n".join(trouble[:50]) or "each buried for its reason; every valid record passed")
    sys.exit(1 if trouble else 0)


if __name__ == "__main__":
    main()
