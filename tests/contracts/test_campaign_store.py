"""What every CampaignStore promises, in memory and in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from stream_app.core.campaign import CampaignPolicy, News, Sighting, Thing
from stream_app.core.ports import CampaignStore
from stream_app.core.record import Source
from stream_app.core.window import HEAD, WindowPolicy, seq_of, source_tag
from stream_app.edges.memory import MemoryCampaigns
from stream_app.edges.redis_campaigns import RedisCampaigns
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_context import RedisContext
from stream_app.edges.redis_windows import RedisWindows
from tests.core.test_campaign import ITEM, QUERY, sighting, told
from tests.core.test_context import PLAN, rows_of

POLICY = CampaignPolicy(closings=4)
DEVICE = Thing("device", "Gerät 7")
SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"
prefixes = count()

Fresh = Callable[[], CampaignStore]  # another store, which saw nothing


@pytest.fixture(scope="module")
def memory_campaigns() -> Fresh:
    return lambda: MemoryCampaigns(POLICY)


@pytest.fixture(scope="module")
def redis_campaigns(client: Redis) -> Iterator[Fresh]:
    with ThreadPoolExecutor(1) as pool:
        yield lambda: RedisCampaigns(client, f"t{next(prefixes)}", POLICY, executor=pool)


@pytest.fixture(scope="module", params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    made: Fresh = request.getfixturevalue(f"{request.param}_campaigns")
    return made


async def test_a_call_may_hold_nothing(fresh: Fresh) -> None:
    assert await fresh().follow([]) == []


async def test_a_campaign_begins_grows_and_ends(fresh: Fresh) -> None:
    store = fresh()
    begun = await store.follow([sighting(n, n) for n in range(3)])
    grown = await store.follow([sighting(n, n) for n in range(3, 5)])
    over = await store.follow([sighting(9, 60, "u9", QUERY)])
    assert told(begun) == [(3, 3, False)]
    assert told(grown) == [(4, 4, False), (5, 5, False)]
    assert told(over) == [(5, 5, True)]
    assert len({one.id for some in (*begun, *grown, *over) for one in some}) == 1


async def test_an_event_that_closed_a_campaign_does_so_again(fresh: Fresh) -> None:
    store = fresh()
    await store.follow([sighting(n, n) for n in range(3)])
    first = await store.follow([sighting(9, 60, "u9", QUERY)])
    assert told(first) == [(3, 3, True)]
    assert await store.follow([sighting(9, 60, "u9", QUERY)]) == first


@st.composite
def calls(draw: st.DrawFn) -> list[list[Sighting]]:
    """Of some things and users, late ones too; any of them may come again later."""
    made = draw(
        st.lists(
            st.tuples(
                st.integers(0, 30),
                st.integers(0, 8),
                st.integers(0, 150),
                st.sets(st.sampled_from([ITEM, QUERY, DEVICE]), min_size=1),
            ),
            max_size=40,
        )
    )
    first: dict[int, Sighting] = {}
    came = []
    for number, user, at_min, things in made:
        new = sighting(number + 2**63, at_min, f"u{user}", *sorted(things, key=str))
        came.append(first.setdefault(number, new))
    cuts = sorted(draw(st.lists(st.integers(0, len(came)), max_size=5)))
    return [came[begin:end] for begin, end in pairwise([0, *cuts, len(came)])]


@pytest.mark.redis
@settings(max_examples=100)
@given(calls())
async def test_redis_tells_what_memory_tells(
    memory_campaigns: Fresh, redis_campaigns: Fresh, calls: list[list[Sighting]]
) -> None:
    memory, redis = memory_campaigns(), redis_campaigns()
    for call in calls:
        assert await redis.follow(call) == await memory.follow(call)


@pytest.mark.redis
async def test_workers_share_a_campaign(client: Redis) -> None:
    with ThreadPoolExecutor(1) as pool:
        one, other = (RedisCampaigns(client, "shared", POLICY, executor=pool) for _ in range(2))
        found: list[list[News]] = []
        for number in range(4):
            found += await (one, other)[number % 2].follow([sighting(number, number)])
    assert told(found) == [(3, 3, False), (4, 4, False)]


@pytest.mark.redis
async def test_every_key_expires_and_logs_are_bounded(client: Redis) -> None:
    policy = CampaignPolicy(kept=20)
    with ThreadPoolExecutor(1) as pool:
        store = RedisCampaigns(client, "bounded", policy, executor=pool)
        for begin in range(0, 200, 10):
            await store.follow([sighting(n, n / 10) for n in range(begin, begin + 10)])
        keys = {key: client.ttl(key) for key in client.scan_iter("bounded:*")}
        await store.follow([sighting(999, 100, "u", QUERY)])
        keys |= {key: client.ttl(key) for key in client.scan_iter("bounded:*")}
    assert len(keys) == 5
    assert all(0 < ttl <= 26 * 3600 for ttl in keys.values())
    assert client.llen("bounded:{campaigns}:item:i9") == 20


@pytest.mark.redis
async def test_the_least_rights_of_the_documents_are_enough(client: Redis) -> None:
    """docs/security.md; windows and the context stage run under them too."""
    commands = SECURITY.read_text().split("ACL SETUSER shopsentry ")[1].splitlines()[0].split()
    rights = [word.removeprefix("+") for word in commands if word.startswith("+")]
    client.acl_setuser(
        "least",
        enabled=True,
        passwords=["+secret"],
        keys=["least*"],
        commands=[f"+{right}" for right in rights],
    )
    told = client.connection_pool.connection_kwargs
    url = f"redis://least:secret@{told['host']}:{told['port']}"
    with connect(url) as limited, ThreadPoolExecutor(4) as pool:
        store = RedisCampaigns(limited, "least", POLICY, executor=pool)
        for group in ([0, 1, 2], [2, 3]):
            await store.follow([sighting(n, n) for n in group])
        assert (await store.follow([sighting(9, 60, "u9", QUERY)]))[0][0].closed
        windows = RedisWindows(limited, "least", np.dtype([*HEAD]), WindowPolicy(), executor=pool)
        source, row = Source("events", 0), np.zeros(1, [*HEAD])
        for n in range(6):  # of the last, one is written in place
            row["id"], row["seq"] = n, seq_of(source_tag(source.topic), n + 1)
            await windows.slide(source, [b"u"], row, [seq_of(source_tag(source.topic), n)])
        users, rows = rows_of([(1, 1, 0, True), (2, 1, 20, False)])
        await (
            await RedisContext(limited, "least", PLAN, executor=pool).fill(0, users, rows)
        ).join()
    client.acl_deluser("least")
