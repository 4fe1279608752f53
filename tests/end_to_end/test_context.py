"""What the site saw, and counters, in the stream: as in a file, however often groups come."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import pytest
from redis import Redis

from models.counters.kept import KeptCounting
from models.training import Options, Sources, train
from stream_app.core.errors import StoreUnavailable
from stream_app.core.outcome import Output
from stream_app.core.record import Source, StoredRecord
from stream_app.core.window import Logs, Rows, WindowPolicy, seq_of, source_tag
from stream_app.edges.memory import MemoryOutbox
from stream_app.edges.redis_alerts import RedisAlertLog
from stream_app.edges.redis_client import connect
from stream_app.edges.redis_context import RedisContext
from stream_app.edges.redis_state import RedisState
from stream_app.edges.redis_windows import HEAD_BYTES, NARROW, RedisWindows
from stream_app.offline import Judged
from stream_app.pipeline import Pipeline, Policies
from stream_app.settings import Settings
from stream_app.wiring import load_scorer, offline_scorer
from tests.end_to_end.rig import Rig, Sent, headers_of, workers
from tests.models.conftest import write_shop
from tests.servers import RedisServer

TOLERANCE = 1e-4
GROUP = 50


class Shop(NamedTuple):
    settings: Settings  # of a bundle with that schema
    lines: list[bytes]
    judged: dict[str, Judged]  # offline, by event id


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("context")
    files = write_shop(folder, users=120, seed=1)
    options = Options(
        epochs=1, pretrain_epochs=1, seed=3, device="cpu", schema=request.param, members=("bert",)
    )
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    bundle = train(sources, folder / "bundle", options).folder
    settings = Settings.model_validate(
        {"scorer": {"device": "cpu", "threads": 1, "bundle": bundle}}
    )
    scorer, lines = offline_scorer(settings), files.data.read_bytes().splitlines()

    async def score_all() -> list[Judged]:
        return [judged async for group in scorer.score(lines) for judged in group]

    return Shop(settings, lines, {j.event_id: j for j in asyncio.run(score_all())})


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize(
    ("shop", "killed"), [("shop-context", False), ("shop-counters", True)], indirect=["shop"]
)
def test_one_worker_after_another_scores_in_order_as_a_file_is_scored(
    rig: Rig, shop: Shop, killed: bool
) -> None:
    rig.partitions = 1  # the file's order is the topic's
    rig.create_topics()
    events = [
        Sent(event["user_id"].encode(), line, event["event_time"])
        for line in shop.lines
        for event in [json.loads(line)]
    ]
    bundle: Path = shop.settings.scorer.bundle
    begun = rig.produce(events[: len(events) // 2])
    with workers(rig, scorer__bundle=bundle, flow__group_records=GROUP) as (first,):
        if killed:
            first.kill_amid(begun // 4)
        else:
            rig.await_committed(begun)
            first.await_ready()
            assert first.stop()[0] == 0, first.said()
    sent = begun + rig.produce(events[begun:])
    assert rig.committed() < sent, "the first worker did it all"
    with workers(rig, scorer__bundle=bundle) as (second,):
        rig.await_committed(sent)
        second.await_ready()
        assert second.stop()[0] == 0, second.said()
    reads = {False: rig.read(Output.CLEANED), True: rig.read(Output.QUARANTINED)}
    ids: list[str] = []
    for anomalous, some in reads.items():
        for read in some:
            ids.append(json.loads(read.value or b"")["event_id"])
            expected = shop.judged[ids[-1]]
            found = float(headers_of(read)["shopsentry-score"])
            assert abs(found - expected.score) <= TOLERANCE
            assert expected.anomalous is anomalous
    assert set(ids) == set(shop.judged)
    assert killed or len(ids) == sent


class Told(NamedTuple):
    """What was decided of a group, and by what."""

    windows: list[bytes]  # the rows of each event's window
    scores: list[float]


@pytest.mark.redis
@pytest.mark.parametrize("shop", ["shop-context", "shop-counters"], indirect=True)
def test_groups_that_come_again_change_no_counter_no_window_and_no_score(
    redis_server: RedisServer, shop: Shop
) -> None:
    with connect(redis_server.url) as redis:
        once_at, often_at = uuid4().hex, uuid4().hex
        once = asyncio.run(told(redis, shop, once_at, [1]))
        often = asyncio.run(told(redis, shop, often_at, [2, 2, 3]))
        for one, many in zip(once, often, strict=True):
            assert many == one * len(many)
        assert counters(redis, often_at) == counters(redis, once_at)
    scores = [score for (group,) in once for score in group.scores]
    expected = [judged.score for judged in shop.judged.values()]
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE)


class Windows(RedisWindows):
    """While it is `away`, it cannot be reached, once."""

    away = False

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        if self.away:
            self.away = False
            raise StoreUnavailable("away")
        return await super().slide(source, users, rows, committed)


async def told(redis: Redis, shop: Shop, prefix: str, times: Sequence[int]) -> list[list[Told]]:
    """Each group comes as often as `times` says, in turn; commits trail a group behind. If that is
    not once alone, Redis goes away whenever windows are asked for, and is back for a second try.
    """
    scorer, encoder = load_scorer(shop.settings)
    limits = Policies(
        shop.settings.window.policy(encoder.schema.window), shop.settings.alerts.policy()
    )
    source, found = Source("events", 0), list[list[Told]]()
    with ThreadPoolExecutor(4) as pool:
        windows = Windows(redis, prefix, encoder.row, limits.window, executor=pool)
        kept = None
        if encoder.schema.counters:
            kept = KeptCounting(encoder.schema, RedisState(redis, prefix, executor=pool))
        pipeline = Pipeline(
            encoder,
            windows,
            scorer,
            RedisAlertLog(redis, prefix, limits.alerts, executor=pool),
            MemoryOutbox(),
            limits,
            context=RedisContext(redis, prefix, encoder.schema.context, executor=pool),
            counters=kept,
        )
        records = [
            StoredRecord(
                topic=source.topic, partition=0, offset=n, timestamp=1 << 46, key=None, value=line
            )
            for n, line in enumerate(shop.lines)
        ]
        for group, begin in enumerate(range(0, len(records), GROUP)):
            committed = seq_of(source_tag(source.topic), max(0, begin - GROUP))
            found.append([])
            for _ in range(times[group % len(times)]):
                some = records[begin : begin + GROUP]
                if times != [1]:
                    windows.away = True
                    with pytest.raises(StoreUnavailable):
                        await pipeline.read(source, some, [committed])
                decided = await pipeline.decide(await pipeline.read(source, some, [committed]))
                seen = decided.seen.windows
                cut = zip(seen.index, seen.length, strict=True)
                found[-1].append(
                    Told(
                        [seen.rows[index[-length:]].tobytes() for index, length in cut],
                        [round(float(score), 5) for score in decided.scores.calibrated],
                    )
                )
    scorer.close()
    return found


def counters(redis: Redis, prefix: str) -> dict[bytes, list[bytes]]:
    """All that Redis keeps, without the prefix: crowds as sets of visits, of logs the rows that a
    coming event is judged by, all else as it is. Answers of counters go once they are committed.
    """
    found: dict[bytes, list[bytes]] = {}
    for key in redis.scan_iter(f"{prefix}:*"):
        name = key[len(prefix) :]
        if name.endswith(b":answers"):
            continue
        value = redis.get(key)
        assert isinstance(value, bytes)
        if name.startswith(b":{c"):
            found[name] = sorted(value[at : at + 8] for at in range(0, len(value), 8))
        elif b":w:" in name:
            found[name] = rows_of(value)[-WindowPolicy().horizon :]
        else:
            found[name] = [value]
    assert any(name.startswith(b":{c") for name in found)
    return found


def rows_of(log: bytes) -> list[bytes]:
    form, slots, _, count, sources = struct.unpack_from("<HI2sIH", log)
    size = form - NARROW
    base = -(-(HEAD_BYTES + 8 * sources + 2 * slots) // size) * size
    return [log[at : at + size] for at in range(base, base + count * size, size)]
