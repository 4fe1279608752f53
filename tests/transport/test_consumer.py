"""Deliveries, commits and rebalances of our consumer, over a thread that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import stream_app.transport.consumer
from stream_app.core.record import Source, StoredRecord
from stream_app.transport.consumer import BATCH_RECORDS
from tests.builders import click, records
from tests.transport.fakes import TP0, TP1, Played, PlayedFetcher

FIRST, SECOND = Source(*TP0), Source(*TP1)


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Played]:
    """Two partitions are assigned, read from offset 10 and 0; polls are being drained."""
    made = Played(tmp_path, {TP0: 10, TP1: 0})
    await made.assign()
    fetcher = PlayedFetcher()
    draining = asyncio.ensure_future(made.consumer._drain_messages(fetcher))
    yield made
    fetcher._stopped.set()
    made.consumer.resume_flow()
    made.room.set()
    await asyncio.wait_for(draining, 5)


def run(first: int, count: int, source: Source = FIRST) -> list[StoredRecord]:
    return records(*(click("u1", at_ms=n) for n in range(count)), first=first, source=source)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for knows nothing of tests
            await asyncio.sleep(0.001)


def offsets(played: Played) -> list[tuple[int, int, int]]:
    """Partition, first offset and number of records of each delivery."""
    return [(b.source.partition, b.records[0].offset, len(b)) for b in played.delivered]


async def test_a_poll_is_delivered_in_small_batches_the_partitions_in_turn(played: Played) -> None:
    long = BATCH_RECORDS + 5
    played.thread.polls.put_nowait({TP0: run(10, long), TP1: run(0, 3, SECOND)})
    await until(lambda: len(played.delivered) == 3)
    assert offsets(played) == [(0, 10, BATCH_RECORDS), (1, 0, 3), (0, 10 + BATCH_RECORDS, 5)]


async def test_a_partition_that_is_sought_begins(tmp_path: Path) -> None:
    played, begun = Played(tmp_path, {TP0: 10, TP1: 0}), list[Source]()
    played.app.transport.begins = begun.append
    await played.assign()
    assert sorted(begun, key=str) == [FIRST, SECOND]


async def test_only_acked_batches_are_committed_and_only_once(played: Played) -> None:
    played.thread.polls.put_nowait({TP0: run(10, 2), TP1: run(0, 3, SECOND)})
    await until(lambda: len(played.delivered) == 2)
    assert not await played.consumer.commit()
    played.delivered[1].delivery.ack()
    assert await played.consumer.commit()
    assert not await played.consumer.commit()
    assert played.thread.commits == [{TP1: 3}]
    assert (played.consumer.committed(FIRST), played.consumer.committed(SECOND)) == (10, 3)
    assert played.consumer.behind(SECOND) == 997


async def test_a_commit_that_failed_is_tried_again(played: Played) -> None:
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    played.delivered[0].delivery.ack()
    played.thread.commits_succeed = False
    assert not await played.consumer.commit()
    assert played.consumer.committed(FIRST) == 10
    played.thread.commits_succeed = True
    assert await played.consumer.commit()
    assert played.thread.commits == [{TP0: 12}]


async def test_of_two_commits_at_once_one_does_nothing(played: Played) -> None:
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    played.delivered[0].delivery.ack()
    assert sorted(await asyncio.gather(played.consumer.commit(), played.consumer.commit())) == [
        False,
        True,
    ]
    assert played.thread.commits == [{TP0: 12}]


async def test_records_before_the_place_of_reading_are_dropped(played: Played) -> None:
    played.thread.polls.put_nowait({TP0: run(7, 5)})
    await until(lambda: played.delivered)
    assert offsets(played) == [(0, 10, 2)]


async def test_records_of_a_partition_that_is_not_ours_are_dropped(played: Played) -> None:
    stranger = Source(TP0.topic, 7)
    played.thread.polls.put_nowait({type(TP0)(*_tp(stranger)): run(0, 5, stranger)})
    played.thread.polls.put_nowait({TP0: run(10, 1)})
    await until(lambda: played.delivered)
    assert offsets(played) == [(0, 10, 1)]


def _tp(source: Source) -> tuple[str, int]:
    return source.topic, source.partition


async def test_revoking_waits_for_what_is_published_commits_it_and_drops_what_waits(
    played: Played,
) -> None:
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    played.thread.polls.put_nowait({TP0: run(12, 3)})
    await until(lambda: len(played.delivered) == 2)
    published, waiting = (b.delivery for b in played.delivered)
    published.publish()
    revoking = asyncio.ensure_future(played.consumer.on_partitions_revoked({TP0, TP1}))
    await asyncio.sleep(0.03)
    assert not revoking.done()
    assert waiting.stale
    published.ack()
    await asyncio.wait_for(revoking, 5)
    assert played.thread.commits == [{TP0: 12}]
    assert played.consumer.assigned() == []


async def test_records_polled_while_partitions_are_revoked_do_not_disturb_what_is_published(
    played: Played,
) -> None:
    """Else the published groups would be forgotten after they were published, and come twice."""
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    published = played.delivered[0].delivery
    published.publish()
    played.thread.polling.clear()
    await played.thread.polling.wait()  # a poll is under way
    revoking = asyncio.ensure_future(played.consumer.on_partitions_revoked({TP0, TP1}))
    await asyncio.sleep(0)
    played.thread.polls.put_nowait({TP0: run(12, 5)})
    await asyncio.sleep(0.03)
    assert not published.stale
    assert not revoking.done()
    published.ack()
    await asyncio.wait_for(revoking, 5)
    assert played.thread.commits == [{TP0: 12}]
    # What was polled meanwhile is read again when the flow goes on.
    await played.assign()
    played.thread.polls.put_nowait({TP0: run(12, 5)})
    await until(lambda: len(played.delivered) == 2)
    assert offsets(played)[1] == (0, 12, 5)


async def test_no_seek_while_a_poll_is_under_way(played: Played) -> None:
    """It would end behind the seek with records that nobody is given, and they would be lost."""
    played.thread.polling.clear()
    await played.thread.polling.wait()
    await asyncio.wait_for(played.consumer.on_partitions_revoked({TP0, TP1}), 5)
    seeks = played.thread.seeks
    assigning = asyncio.ensure_future(played.assign())
    await asyncio.sleep(0.01)
    assert played.thread.seeks == seeks
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await asyncio.wait_for(assigning, 5)
    assert played.thread.seeks == seeks + 1
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    assert offsets(played) == [(0, 10, 2)]


async def test_a_full_queue_does_not_hold_up_a_rebalance(played: Played) -> None:
    played.room.clear()
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await asyncio.sleep(0.01)
    await asyncio.wait_for(played.consumer.on_partitions_revoked({TP0, TP1}), 5)
    await asyncio.sleep(0.01)
    played.room.set()
    await asyncio.sleep(0.01)
    assert played.delivered == []  # the old delivery was given up
    await played.assign()
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    assert offsets(played) == [(0, 10, 2)]


async def test_a_late_ack_after_a_rebalance_commits_nothing_of_what_came_again(
    played: Played,
) -> None:
    played.thread.polls.put_nowait({TP0: run(10, 5)})
    await until(lambda: played.delivered)
    old = played.delivered[0].delivery
    old.publish()
    played.consumer.ledgers[TP0].forget()
    await played.assign()
    played.thread.polls.put_nowait({TP0: run(10, 5)})
    await until(lambda: len(played.delivered) == 2)
    old.ack()
    assert not await played.consumer.commit()
    assert played.consumer.committed(FIRST) == 10


async def test_draining_has_an_end_even_if_an_ack_never_comes(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_app.transport.consumer, "DRAIN_S", 0.05)
    played.thread.polls.put_nowait({TP0: run(10, 2)})
    await until(lambda: played.delivered)
    stuck = played.delivered[0].delivery
    stuck.publish()
    await asyncio.wait_for(played.consumer.on_partitions_revoked({TP0, TP1}), 5)
    assert stuck.stale
    assert played.thread.commits == []
