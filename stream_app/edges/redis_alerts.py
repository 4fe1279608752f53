"""Stage 6: who alerted lately, in Redis, stepped by one script call for each group of anomalies.

    key    <prefix>:{<partition>}:a:<task>:<user>     the braces keep a partition on one shard
    value  a `core.alerting.Watch`, packed as alerts.lua says

The script repeats `core.alerting.step`, so an anomaly seen before changes nothing, whoever brings
it. A watch expires when cool-down and risk are long over.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict
from stream_app.edges.redis_client import Client, Script

HALF_LIVES: Final = 4  # then a sixteenth of a risk is left
ANOMALY: Final = struct.Struct("<IqQ")
VERDICT: Final = struct.Struct("<?Id")


class RedisAlertLog:
    """An `AlertLog`."""

    def __init__(
        self, client: Client, prefix: str, policy: AlertPolicy, *, executor: Executor
    ) -> None:
        self._prefix = prefix
        ttl_ms = HALF_LIVES * max(policy.cooldown_ms, policy.risk_half_life_ms)
        ttl_s = -(-ttl_ms // 1000)
        self._settings = (policy.cooldown_ms, policy.risk_half_life_ms, policy.kept, ttl_s)
        self._script: Script[bytes] = Script(client, executor, "alerts.lua")

    async def judge(self, partition: int, anomalies: Sequence[Anomaly]) -> list[Verdict]:
        """See `ports.AlertLog`. Raises StoreUnavailable, Misconfigured."""
        if not anomalies:
            return []
        head = f"{self._prefix}:{{{partition}}}:a:"
        numbers: dict[str, int] = {}
        packed = b"".join(
            ANOMALY.pack(
                numbers.setdefault(f"{head}{a.task}:{a.user_id}", len(numbers) + 1), a.at_ms, a.seq
            )
            for a in anomalies
        )
        keys = [key.encode() for key in numbers]
        reply = await self._script(keys, (*self._settings, packed))
        return [Verdict(*fields) for fields in VERDICT.iter_unpack(reply)]
