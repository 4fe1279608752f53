"""A short part of `scripts.chaos`: faults of every kind, in both deliveries."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from scripts.chaos.runs import Pace, run
from scripts.chaos.scenes import SCENES
from scripts.chaos.site import Site

PLANS = {
    "exactly-once": (
        *("kill", "redis-flush", "cut", "broker-kill", "scorer-raises", "redis-full"),
        *("zombie", "redis-failover"),
    ),
    "at-least-once": (
        *("kill", "redis-restart", "silent", "scorer-no-memory", "script-flush", "broker-kill"),
    ),
}
QUICK = Pace(pause_s=0.5)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with SCENES["all"].site(tmp_path_factory.mktemp("chaos")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("delivery", sorted(PLANS))
def test_faults_lose_nothing_and_double_nothing(
    delivery: str, request: pytest.FixtureRequest
) -> None:
    result = run("all", request.getfixturevalue("site"), 1, delivery, 3000, PLANS[delivery], QUICK)
    told = msgspec.json.encode(result).decode()
    assert result.ok, told
    assert result.records >= 3000
    assert result.poison, told
    assert {*PLANS[delivery]} <= {*result.faults}


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.redis
def test_a_cluster_that_loses_leaders_and_copies_loses_no_record(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plan = ("leader-kill", "kill")
    with SCENES["cluster"].site(tmp_path_factory.mktemp("cluster")) as site:
        result = run("cluster", site, 1, "exactly-once", 2000, plan, QUICK)
    assert result.ok, msgspec.json.encode(result).decode()
    assert result.records >= 2000
    assert result.compared > 1000, "scores, decisions and alerts were not looked at"
    assert {*plan} <= {*result.faults}
