"""Scenes: which servers there are, what may happen to them and how often, and what is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from scripts.chaos import faults
from scripts.chaos.load import Load
from scripts.chaos.results import ONE_NODE
from scripts.chaos.site import (
    Site,
    all_at_once,
    by_other_clocks,
    by_proxies,
    one_node,
    shaky_scorers,
    three_nodes,
    two_stores,
)

FAULTS: Final[dict[str, faults.Fault]] = {
    "kill": faults.kill,
    "terminate": faults.terminate,
    "zombie": faults.zombie,
    "storm": faults.storm,
    "broker-kill": faults.broker_kill,
    "leader-kill": faults.leader_kill,
    "leader-move": faults.leader_move,
    "replica-kill": faults.replica_kill,
    "redis-restart": faults.redis_restart,
    "redis-lost": faults.redis_lost,
    "redis-flush": faults.redis_flush,
    "script-flush": faults.script_flush,
    "redis-cut": faults.redis_cut,
    "redis-full": faults.redis_full,
    "redis-disk-full": faults.redis_disk_full,
    "redis-failover": faults.redis_failover,
    "cut": faults.cut,
    "delayed": faults.delayed,
    "silent": faults.silent,
    "scorer-raises": faults.scorer("raises", 0.5, 2.0),
    "scorer-no-memory": faults.scorer("no-memory", 2.0, 5.0),
    "scorer-hangs": faults.scorer("hangs", 3.0, 9.0),
    "scorer-lost": faults.scorer("lost", 0.2, 1.0),
    "clock-jump": faults.clock_jump,
}


class Scene(Struct, frozen=True, kw_only=True):
    """`weights` of the faults; those in `rare` are drawn in a fifth of the runs alone."""

    site: Callable[[Path], AbstractContextManager[Site]]
    weights: Mapping[str, float]
    rare: Mapping[str, float] = field(default_factory=dict)
    load: Load = Load()


BROKEN: Final = Load(a_second=1000, late=0.005, malformed=0.01)
SCENES: Final[dict[str, Scene]] = {
    ONE_NODE: Scene(
        site=one_node,
        weights={
            "kill": 6,
            "terminate": 2,
            "zombie": 3,
            "storm": 1,
            "broker-kill": 2,
            "redis-restart": 2,
            "redis-flush": 0,
            "script-flush": 1,
            "redis-cut": 1,
        },
        rare={"redis-flush": 1},
    ),
    "redis": Scene(
        site=two_stores,
        weights={
            "kill": 3,
            "zombie": 1,
            "redis-flush": 3,
            "redis-lost": 1,
            "script-flush": 2,
            "redis-full": 3,
            "redis-disk-full": 2,
            "redis-failover": 3,
        },
        load=BROKEN,
    ),
    "network": Scene(
        site=by_proxies,
        weights={"kill": 2, "terminate": 1, "cut": 5, "delayed": 4, "silent": 4},
        load=BROKEN,
    ),
    "scorer": Scene(
        site=shaky_scorers,
        weights={
            "kill": 2,
            "terminate": 1,
            "scorer-raises": 2,
            "scorer-no-memory": 2,
            "scorer-hangs": 2,
            "scorer-lost": 1,
        },
        load=BROKEN,
    ),
    "clock": Scene(
        site=by_other_clocks,
        weights={"kill": 2, "terminate": 1, "zombie": 1, "redis-restart": 1, "clock-jump": 6},
        load=BROKEN,
    ),
    "all": Scene(
        site=all_at_once,
        weights={
            "kill": 3,
            "terminate": 1,
            "zombie": 1,
            "broker-kill": 1,
            "redis-restart": 1,
            "redis-flush": 1,
            "redis-full": 1,
            "redis-failover": 1,
            "script-flush": 1,
            "cut": 2,
            "delayed": 1,
            "silent": 1,
            "scorer-raises": 1,
            "scorer-hangs": 1,
        },
        load=Load(a_second=400, late=0.005, malformed=0.01),
    ),
    "cluster": Scene(
        site=three_nodes,
        weights={"kill": 3, "zombie": 1, "leader-kill": 4, "leader-move": 2, "replica-kill": 2},
        load=Load(a_second=500, late=0.005, malformed=0.01),
    ),
}
