"""The yardstick under the same faults: what the straightforward version loses and doubles.

It keeps no times and no origins, and looks for no duplicates, so the audit would find fault with
nearly all. Kindly counted: each value of the input has to be there as often as it was sent, in
whichever of its outputs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from scripts.chaos.results import Result
from scripts.chaos.stage import SESSION_S
from stream_app.core.audit import Difference
from stream_app.core.outcome import Output
from stream_app.core.record import Record
from stream_app.edges.auditing import Gathered
from tests.end_to_end.rig import Rig, Worker

NAME: Final = "straightforward"
IDLE_S: Final = 30.0  # without a commit: it will not go on
OUTPUTS: Final = (Output.CLEANED, Output.QUARANTINED, Output.DEAD_LETTERS)


def worker_of(rig: Rig) -> type[Worker]:
    """`scripts.yardstick` on a rig's topics; it gets our session timeout, not Faust's minute."""
    given = {
        "kafka": rig.kafka.address,
        "redis": rig.redis.url,
        "topic": rig.input,
        "prefix": f"{rig.name}.out.",
        "group": rig.name,
        "scorer": "free",
        "bundle": "",
        "session": SESSION_S,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]

    class Straightforward(Worker):
        program = ("scripts.yardstick.worker", *words)

    return Straightforward


def await_end(rig: Rig, records: int) -> None:
    """Until all is committed, or nothing more is."""
    done, since = rig.committed(), time.monotonic()
    while done < records and time.monotonic() - since < IDLE_S:
        time.sleep(1.0)
        if (now := rig.committed()) > done:
            done, since = now, time.monotonic()


def judge(found: Gathered, result: Result) -> None:
    """Fill in what was lost and doubled."""
    sent = _values(found.inputs)
    got = sum((_values(found.outputs[output]) for output in OUTPUTS), Counter[bytes]())
    lost, doubled = sent - got, got - sent
    result.records, result.lost, result.doubled = sent.total(), lost.total(), doubled.total()
    result.outcomes = Counter({str(o): len(found.outputs[o]) for o in OUTPUTS})
    told = [*(("lost", value) for value in lost), *(("doubled", value) for value in doubled)]
    result.differences = [
        Difference(kind, "", value.decode("utf-8", "replace")) for kind, value in told[:20]
    ]


def _values(records: Iterable[Record]) -> Counter[bytes]:
    return Counter(record.value or b"" for record in records)
