"""What the latency benchmark makes of what it saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scripts.bench_end_to_end import table
from scripts.benchmarks.open_loop import HOLE, READ, STAMP, Sent, grows, judged, prepared
from stream_app.core.outcome import Output

CLEANED, ASIDE, ALERT = map(READ.index, (Output.CLEANED, Output.QUARANTINED, Output.ALERTS))


def test_a_step_is_judged_by_what_was_due_in_its_stretch() -> None:
    ms = 1000
    #          output   due       appended    read
    rows = [
        (CLEANED, 1 * ms, 2 * ms, 500 * ms),  # due before the stretch
        (CLEANED, 100 * ms, 101 * ms, 104 * ms),
        (CLEANED, 200 * ms, 201 * ms, 206 * ms),
        (ASIDE, 300 * ms, 308 * ms, 310 * ms),
        (ALERT, 300 * ms, 311 * ms, 314 * ms),
    ]
    sent = Sent(first_us=0, begin_us=100 * ms, end_us=300 * ms, events=3, sent=4, late_p99_ms=0.5)
    found = judged(sent, np.array(rows), outcomes=4)
    assert found["outcomes"] == 3
    assert found["kept up"]
    assert (found["outcome ms"]["n"], found["outcome ms"]["p50"]) == (3, 6)
    assert found["outcome ms"]["max"] == 10
    assert found["alert ms"]["p50"] == 14
    parts = {part: found[part] for part in ("sent ms", "worked ms", "read ms")}
    assert parts == {"sent ms": 1, "worked ms": 7, "read ms": 2}
    assert (found["alert worked ms"], found["alert read ms"]) == (10, 3)
    assert not judged(sent, np.array(rows), outcomes=3)["kept up"]


@pytest.mark.parametrize(
    ("first_ms", "second_ms", "grown"),
    [(10, 100, False), (10, 120, True), (300, 560, True), (900, 20, False), (4900, 3200, True)],
)
def test_a_load_is_too_high_if_latency_grows_or_a_tenth_of_it_waits(
    first_ms: float, second_ms: float, grown: bool
) -> None:
    assert grows(first_ms, second_ms, apart_ms=2000, since_ms=8000) is grown


def test_an_event_tells_when_it_was_due() -> None:
    for _, head, tail, _ in prepared("free", 50):
        assert HOLE.encode() not in head + tail
        value = b"%b%016d%08x%b" % (head, 1_700_000_000_123_456, 7, tail)
        if tail:  # else it is one of those that are no JSON
            stamp = STAMP.search(value)
            assert stamp is not None
            assert int(stamp[1]) == 1_700_000_000_123_456


def test_the_table_has_a_line_for_each_load_with_all_its_rounds() -> None:
    def run(rate: int, p50: float, kept: bool) -> dict[str, Any]:
        quantiles = {"p50": p50, "p99": p50 * 2}
        return {
            **{"scorer": "free", "delivery": "exactly-once", "rate": rate, "kept up": kept},
            **{"outcome ms": quantiles, "alert ms": {}, "sent ms": 1.0},
            **{"alert worked ms": 8.0, "alert read ms": 2.0},
            "cores": dict.fromkeys(("worker", "Redis", "broker", "sender", "reader"), 0.25),
        }

    found = [run(1000, p50, True) for p50 in (9, 7, 8)] + [run(50_000, 900, False)]
    head, rule, *rows = table(found).splitlines()
    assert rule.count("|") == head.count("|")
    assert rows[0].startswith(
        "| free | exactly-once | 1,000 | 3 of 3 | 8 (7-9) | 16 (14-18) | nan (nan-nan) |"
    )
    assert rows[0].endswith("| 1 | 8 | 2 | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 |")
    assert rows[1].startswith("| free | exactly-once | 50,000 | 0 of 1 | 900 (900-900) |")
