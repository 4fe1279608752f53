"""What every AlertLog promises, in memory and in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict
from stream_app.core.ports import AlertLog
from stream_app.core.window import seq_of
from stream_app.edges.memory import MemoryAlertLog
from stream_app.edges.redis_alerts import RedisAlertLog

POLICY = AlertPolicy(cooldown_ms=100, risk_half_life_ms=1000, kept=3)
NOW = 1_700_000_000_000
prefixes = count()

Fresh = Callable[[], AlertLog]  # another log, in which nobody alerted


@pytest.fixture(scope="module")
def memory_alerts() -> Fresh:
    return lambda: MemoryAlertLog(POLICY)


@pytest.fixture(scope="module")
def redis_alerts(client: Redis) -> Iterator[Fresh]:
    with ThreadPoolExecutor(1) as pool:
        yield lambda: RedisAlertLog(client, f"t{next(prefixes)}", POLICY, executor=pool)


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    made: Fresh = request.getfixturevalue(f"{request.param}_alerts")
    return made


def anomaly(offset: int, at_ms: int, user: str = "Käufer 1", task: int = 0) -> Anomaly:
    return Anomaly(user, task, seq_of(0xFFFF, offset + 1), NOW + at_ms)


def told(verdicts: list[Verdict]) -> list[tuple[bool, int]]:
    return [(verdict.alert, verdict.suppressed) for verdict in verdicts]


async def test_users_and_tasks_cool_down_apart_and_in_order(fresh: Fresh) -> None:
    verdicts = await fresh().judge(
        0,
        [
            anomaly(0, 0),
            anomaly(1, 10, user="other"),
            anomaly(2, 20),
            anomaly(3, 30, task=1),
            anomaly(4, 100),
            anomaly(5, 110),
        ],
    )
    assert told(verdicts) == [(True, 0), (True, 0), (False, 1), (True, 0), (True, 1), (False, 1)]
    assert [v.mass for v in verdicts[:2]] == [1.0, 1.0]
    assert verdicts[2].mass == pytest.approx(1 + 0.5**0.02, abs=1e-9)


async def test_a_call_may_hold_nothing(fresh: Fresh) -> None:
    assert await fresh().judge(0, []) == []


async def test_a_zombie_changes_nothing(fresh: Fresh) -> None:
    #  two owners read the same partition; the slow one comes late with what the other has judged
    history = [anomaly(n, 60 * n) for n in range(8)]
    alone, shared = fresh(), fresh()
    expected = [await alone.judge(0, history[:4]), await alone.judge(0, history[4:])]
    first = await shared.judge(0, history[:4])
    await shared.judge(0, history[1:3])
    await shared.judge(0, history[:1])
    assert [first, await shared.judge(0, history[4:])] == expected


@st.composite
def calls(draw: st.DrawFn) -> list[list[Anomaly]]:
    """Of two topics, users and tasks; late ones, and ones that were judged in an earlier call."""
    anomalies = [
        Anomaly(user, task, seq_of(tag, offset), NOW + at_ms)
        for user, task, tag, offset, at_ms in draw(
            st.lists(
                st.tuples(
                    st.sampled_from("ab"),
                    st.integers(0, 1),
                    st.sampled_from([0x0000, 0x00FF, 0xFFFF]),
                    st.sampled_from([1, 2, 3, 4, 5, 6, 255, 256, 2**48 - 1]),
                    st.integers(-500, 5000),
                ),
                max_size=40,
            )
        )
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(anomalies)), max_size=5)))
    return [
        anomalies[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(anomalies)], strict=True)
    ]


@pytest.mark.redis
@settings(max_examples=150, deadline=None)
@given(calls(), st.booleans())
async def test_redis_steps_as_memory_does(
    memory_alerts: Fresh, redis_alerts: Fresh, client: Redis, calls: list[list[Anomaly]], lose: bool
) -> None:
    memory, redis = memory_alerts(), redis_alerts()
    for batch in calls:
        if lose:
            client.script_flush()
        expected, verdicts = await memory.judge(0, batch), await redis.judge(0, batch)
        assert told(verdicts) == told(expected)
        assert [v.mass for v in verdicts] == pytest.approx([v.mass for v in expected], abs=1e-9)


async def test_every_key_expires(client: Redis) -> None:
    policy = AlertPolicy(cooldown_ms=1000, risk_half_life_ms=60_000)
    with ThreadPoolExecutor(1) as pool:
        log = RedisAlertLog(client, "alerting", policy, executor=pool)
        await log.judge(3, [anomaly(0, 0), anomaly(1, 5, user="b", task=2)])
    keys = sorted(client.scan_iter("alerting:*"))
    assert keys == ["alerting:{3}:a:0:Käufer 1".encode(), b"alerting:{3}:a:2:b"]
    assert all(230 < client.ttl(key) <= 240 for key in keys)
