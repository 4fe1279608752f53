"""A short seeded part of `scripts.chaos`: a worker killed, one asleep, Redis and broker down."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from scripts.chaos import Result, read, run, table
from tests.servers import KafkaBroker, RedisServer

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
SEEDS = {"exactly-once": 2, "at-least-once": 1}  # each with a kill, a zombie, the broker, Redis


@pytest.mark.slow
@pytest.mark.parametrize("delivery", sorted(SEEDS))
def test_faults_lose_nothing_and_double_nothing(
    delivery: str, kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "redis", DURABLE) as store:
        result = run(SEEDS[delivery], delivery, 5000, 5, kafka_broker, store)
    told = msgspec.json.encode(result).decode()
    assert result.ok, told
    assert result.records >= 5000
    for fault in ("kill", "zombie", "broker-kill", "redis-restart"):
        assert result.faults[fault], told


def test_the_table_adds_up_by_delivery(tmp_path: Path) -> None:
    good = Result(seed=1, delivery="exactly-once", records=1000)
    good.faults["kill"] = 2
    bad = Result(seed=2, delivery="exactly-once", records=500, lost=3)
    bad.faults["kill"] = 1
    other = Result(seed=3, delivery="at-least-once", records=7, failed="Traceback")
    assert (good.ok, bad.ok, other.ok) == (True, False, False)
    kept = tmp_path / "runs.jsonl"
    kept.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in (good, bad, other)))
    _, _, first, second = table(read(kept)).splitlines()
    assert first.startswith("| at-least-once | 1 | 0 | 0 |")
    assert first.endswith("| 1 |")
    assert second.startswith("| exactly-once | 2 | 1,500 | 3 |")
    assert "| 3 | 0 |" in second
