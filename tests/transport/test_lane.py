"""The states of a partition's lane, over transactions that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)

import stream_app.transport.lane
from stream_app.core.errors import OutboxUnavailable, OutputsWithdrawn
from stream_app.transport.lane import Lane, State


class Scene:
    """Stands for Kafka and for the consumer; notes what the lane asks of them."""

    id = "g:t:0"

    def __init__(self, opens: bool = True) -> None:
        self.calls: list[str] = []
        self.committed = 10
        self.opened = 0
        self.begun = 0
        self.crashes: list[BaseException] = []
        self.troubles: list[Exception] = []  # of the next transactions
        self.refusals: list[Exception] = []  # to begin one
        self.stays: list[Exception] = []  # refusals to leave one
        self.opening = asyncio.Event()
        if opens:
            self.opening.set()
        self.passing = asyncio.Event()  # clear: transactions are held
        self.passing.set()
        self.lane = Lane(self, self._seek, self._rewind, self._crash)  # type: ignore[arg-type]

    # what `Transactions` does

    @property
    def epoch(self) -> tuple[int, int]:
        return 7, self.opened

    async def open(self) -> None:
        await self.opening.wait()
        self.opened += 1
        self.calls.append("open")

    async def begin(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.begun += 1

    async def leave(self) -> None:
        if self.stays:
            raise self.stays.pop(0)
        self.calls.append("leave")

    async def commit(self, write: Any, next_offset: int) -> None:
        await write(None)
        await self.passing.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        self.committed = next_offset
        self.calls.append(f"commit {next_offset}")

    async def abort(self) -> None:
        self.calls.append("abort")

    async def drop(self) -> None:
        self.calls.append("drop")

    # what the consumer does

    async def _seek(self) -> int:
        self.calls.append(f"seek {self.committed}")
        return self.committed

    def _rewind(self) -> None:
        self.calls.append("rewind")

    async def _crash(self, error: BaseException) -> None:
        self.crashes.append(error)

    def submit(self, next_offset: int) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._awaited(self.lane.submit(nothing, next_offset)))

    async def _awaited(self, done: Awaitable[None]) -> None:
        await done

    async def until(self, state: State) -> None:
        async with asyncio.timeout(5):
            while self.lane.state is not state:  # noqa: ASYNC110 - it knows nothing of tests
                await asyncio.sleep(0.001)


async def nothing(_producer: object) -> Sequence[Awaitable[Any]]:
    return []


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for pause in ("PAUSE_S", "FENCED_PAUSE_S"):
        monkeypatch.setattr(stream_app.transport.lane, pause, 0.001)
    monkeypatch.setattr(stream_app.transport.lane, "CLOSE_S", 0.05)
    made = Scene()
    yield made
    made.passing.set()
    await made.lane.close()


async def test_the_committed_offset_is_read_after_the_opening_never_before(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    assert scene.calls == ["open", "seek 10"]


async def test_groups_that_wait_are_committed_together_in_their_order(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.passing.clear()
    groups = [scene.submit(12)]
    await asyncio.sleep(0.01)
    groups += [
        asyncio.ensure_future(scene._awaited(scene.lane.submit(noted(scene, offset), offset)))
        for offset in (15, 20)
    ]
    await asyncio.sleep(0.01)
    scene.passing.set()
    await asyncio.gather(*groups)
    assert scene.calls[2:] == ["commit 12", "write 15", "write 20", "commit 20"]
    assert scene.lane.committed == 20


async def test_a_transaction_is_begun_ahead_and_left_before_the_broker_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_app.transport.lane, "IDLE_S", 0.02)
    await scene.until(State.RUNNING)
    await asyncio.sleep(0)
    assert (scene.begun, scene.calls[2:]) == (1, [])
    await scene.submit(12)
    await asyncio.sleep(0.1)
    assert (scene.begun, scene.calls[2:]) == (2, ["commit 12", "leave"]), "left once"
    await scene.submit(15)
    assert scene.calls[4:] == ["commit 15"]


async def test_a_beginning_that_fails_is_as_a_transaction_that_fails(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.refusals = [ProducerFenced()]
    await scene.submit(12)
    await asyncio.sleep(0.05)
    await scene.until(State.RUNNING)
    assert scene.calls[2:] == ["commit 12", "rewind", "drop", "open", "seek 12"]


@pytest.mark.parametrize("error", [TimeoutError(), KafkaError("FindCoordinator failed")])
@pytest.mark.parametrize("away", ["refusals", "stays"])
async def test_a_broker_that_is_away_is_no_trouble_until_something_waits_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, away: str, error: Exception
) -> None:
    """Else an outage of a minute would end workers that have nothing to do."""
    monkeypatch.setattr(stream_app.transport.lane, "IDLE_S", 0.01)
    await scene.until(State.RUNNING)
    getattr(scene, away).append(error)
    await scene.submit(12)
    await asyncio.sleep(0.05)
    assert (scene.lane.state, scene.calls[2:]) == (State.RUNNING, ["commit 12", "drop"])
    with pytest.raises(OutputsWithdrawn):
        await scene.submit(15)
    await asyncio.sleep(0.01)
    await scene.until(State.RUNNING)
    assert scene.calls[4:8] == ["rewind", "drop", "open", "seek 12"]
    await scene.submit(15)
    assert (scene.lane.committed, scene.crashes) == (15, [])


async def test_what_would_fail_for_ever_ends_an_idle_worker_too(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.refusals = [GroupAuthorizationFailedError("g")]
    await scene.submit(12)
    await scene.until(State.REVOKED)
    await asyncio.sleep(0.01)
    assert [type(error) for error in scene.crashes] == [OutboxUnavailable]


async def test_a_lane_whose_broker_is_away_may_be_given_back(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.refusals = [TimeoutError()]
    await scene.submit(12)
    await asyncio.sleep(0.01)
    scene.lane.drain()
    await asyncio.wait_for(scene.lane.close(), 1)
    assert scene.calls[2:] == ["commit 12", "drop", "abort", "drop"]


def noted(scene: Scene, offset: int) -> Any:
    async def write(_producer: object) -> Sequence[Awaitable[Any]]:
        scene.calls.append(f"write {offset}")
        return []

    return write


async def test_groups_out_of_order_are_a_defect(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    await scene.submit(15)
    with pytest.raises(AssertionError):
        scene.lane.submit(nothing, 15)


@pytest.mark.parametrize(
    "error", [ProducerFenced(), TimeoutError(), KafkaError("?"), KeyError("aiokafka 1098")]
)
async def test_after_any_error_all_is_taken_back_and_begun_anew_from_the_truth(
    scene: Scene, error: Exception
) -> None:
    await scene.until(State.RUNNING)
    scene.passing.clear()
    scene.troubles = [error]
    waiting = [scene.submit(offset) for offset in (12, 15)]
    await asyncio.sleep(0.01)
    scene.committed = 12  # it was committed nevertheless
    scene.passing.set()
    for group in waiting:
        with pytest.raises(OutputsWithdrawn):
            await group
    await scene.until(State.RUNNING)
    assert scene.calls[2:] == ["rewind", "drop", "open", "seek 12"]
    await scene.submit(15)
    assert (scene.lane.committed, scene.crashes) == (15, [])


async def test_until_it_runs_nothing_can_be_submitted_and_it_is_given_back_at_once() -> None:
    scene = Scene(opens=False)
    await asyncio.sleep(0)
    with pytest.raises(OutputsWithdrawn):
        scene.lane.submit(nothing, 12)
    scene.lane.drain()
    await scene.lane.close()
    assert (scene.lane.state, scene.opened) == (State.REVOKED, 0)


async def test_an_opening_without_a_seek_is_a_defect_and_commits_nothing(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.opened += 1  # somebody opened it behind our back
    with pytest.raises(OutputsWithdrawn):
        await scene.submit(12)
    assert "commit 12" not in scene.calls


async def test_what_is_submitted_is_committed_while_it_drains_and_nothing_more(
    scene: Scene,
) -> None:
    await scene.until(State.RUNNING)
    scene.passing.clear()
    first, second = scene.submit(12), scene.submit(15)
    await asyncio.sleep(0)
    scene.lane.drain()
    assert scene.lane.state is State.DRAINING
    with pytest.raises(OutputsWithdrawn):
        scene.lane.submit(nothing, 20)
    scene.passing.set()
    await asyncio.gather(first, second)
    await scene.lane.close()
    assert scene.calls[2:] == ["commit 15", "abort", "drop"]


async def test_an_error_while_it_drains_is_the_end(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.troubles = [ProducerFenced()]
    submitted = scene.submit(12)
    scene.lane.drain()
    with pytest.raises(OutputsWithdrawn):
        await submitted
    await scene.until(State.REVOKED)
    await scene.lane.close()
    assert scene.opened == 1, "it is not ours: opening it would shut out its owner"
    assert scene.calls[2:5] == ["rewind", "abort", "drop"], "readers would wait for it"


async def test_a_transaction_that_hangs_is_aborted_at_the_end(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.passing.clear()
    stuck = scene.submit(12)
    await asyncio.sleep(0.01)
    scene.lane.drain()
    await asyncio.wait_for(scene.lane.close(), 5)
    with pytest.raises(OutputsWithdrawn):
        await stuck
    assert scene.calls[2:] == ["abort", "drop"]


async def test_a_group_whose_partition_was_closed_does_not_hold_the_end(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.passing.clear()
    gone = scene.submit(12)
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.wait_for(scene.lane.close(), 5)


async def test_what_would_fail_for_ever_ends_the_worker_at_once(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.troubles = [MessageSizeTooLargeError()]
    with pytest.raises(OutputsWithdrawn):
        await scene.submit(12)
    await scene.until(State.REVOKED)
    await asyncio.sleep(0.01)
    assert [type(error) for error in scene.crashes] == [OutboxUnavailable]
    assert scene.opened == 1
    assert scene.calls[2:] == ["rewind", "abort", "drop"], "readers would wait for it"


async def test_trouble_without_an_end_ends_the_worker_and_a_success_ends_trouble(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    class HandClock:
        @staticmethod
        def monotonic() -> float:
            return now_s

    monkeypatch.setattr(stream_app.transport.lane, "time", HandClock)

    async def fails() -> None:
        await scene.until(State.RUNNING)
        scene.troubles = [TimeoutError()]
        with pytest.raises(OutputsWithdrawn):
            await scene.submit(scene.committed + 1)
        await asyncio.sleep(0.01)

    for now_s in (0.0, 40.0):  # noqa: B007 - the clock reads it
        await fails()
    await scene.until(State.RUNNING)
    await scene.submit(scene.committed + 1)
    for now_s in (70.0, 110.0, 300.0, 350.0):  # noqa: B007 - 190 s without trouble end it too
        await fails()
    assert scene.crashes == []
    now_s = 361.0
    await fails()
    assert [type(error) for error in scene.crashes] == [OutboxUnavailable]


async def test_a_lane_that_has_given_up_may_be_drained_and_closed(scene: Scene) -> None:
    await scene.until(State.RUNNING)
    scene.troubles.append(MessageSizeTooLargeError())
    with pytest.raises(OutputsWithdrawn):
        await scene.submit(12)
    await scene.until(State.REVOKED)
    scene.lane.drain()
    await scene.lane.close()
    assert scene.lane.state is State.REVOKED


async def test_a_lane_that_never_ran_may_be_drained_twice() -> None:
    scene = Scene(opens=False)
    scene.lane.drain()
    scene.lane.drain()
    await scene.lane.close()
    assert scene.calls[-2:] == ["abort", "drop"]
