"""One input partition while it is ours, exactly once: from its assignment to its revocation.

    assigned --opened--> seeking --sought--> running --drain--> draining --close--> revoked
        ^                   |                   |
        '------ recover: whatever went wrong ---'

    assigned   its transactions are being opened: who had them before is shut out
    seeking    the committed offset is read, and reading starts from there
    running    records are delivered, their outputs committed, one transaction after another
    draining   nothing more is submitted; what was may still be committed
    revoked    somebody else's

There is one way to recover, also from a transaction of which nobody knows how it ended: take back
all that is on its way, open anew, and go on from what the broker says is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    MessageSizeTooLargeError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from stream_app.core.errors import OutboxUnavailable, OutputsWithdrawn
from stream_app.transport.transactions import Transactions, Write

GIVE_UP_S: Final = 60.0  # of trouble without a transaction in between
PAUSE_S: Final = 0.5
FENCED_PAUSE_S: Final = 1.0  # if the partition is no longer ours, we are told in this time
CLOSE_S: Final = 2.0  # for the transaction that is under way
IDLE_S: Final = 5.0  # that a transaction waits for its first outputs
HOPELESS: Final = (  # it would go wrong for ever
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

log = logging.getLogger("shopsentry.transactions")


class State(Enum):
    ASSIGNED = "assigned"
    SEEKING = "seeking"
    RUNNING = "running"
    DRAINING = "draining"
    REVOKED = "revoked"


NEXT: Final = {
    State.ASSIGNED: {State.SEEKING, State.ASSIGNED, State.REVOKED},
    State.SEEKING: {State.RUNNING, State.ASSIGNED, State.REVOKED},
    State.RUNNING: {State.DRAINING, State.ASSIGNED, State.REVOKED},
    State.DRAINING: {State.REVOKED},
    State.REVOKED: set[State](),
}


class Job(NamedTuple):
    """The outputs of a group, and the offset after its last record."""

    write: Write
    next_offset: int
    done: asyncio.Future[None]


class Lane:
    """The state of one partition, and the transactions that wait for their turn."""

    def __init__(
        self,
        transactions: Transactions,
        seek: Callable[[], Awaitable[int]],
        rewind: Callable[[], None],
        give_up: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        """`seek` reads the committed offset and reads on from there; `rewind` marks all that was
        delivered as stale; `give_up` ends the worker.
        """
        self.state = State.ASSIGNED
        self.committed = 0  # by a transaction of ours, or found when seeking
        self._transactions = transactions
        self._seek = seek
        self._rewind = rewind
        self._give_up = give_up
        self._epoch: tuple[int, int] | None = None  # in which the committed offset was read
        self._submitted = 0
        self._jobs: deque[Job] = deque()  # some of the first are under way
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._trouble_since: float | None = None
        self._trouble_last = 0.0
        self._running = asyncio.ensure_future(self._run())

    def submit(self, write: Write, next_offset: int) -> Awaitable[None]:
        """What comes back is done once readers see the outputs. In the order of offsets.

        Raises OutputsWithdrawn, now or then: nobody will see them, and the records come again.
        """
        if self.state is not State.RUNNING:
            raise OutputsWithdrawn(f"{self._transactions.id} is {self.state.value}")
        assert next_offset > self._submitted, "groups come in the order of their offsets"
        self._submitted = next_offset
        job = Job(write, next_offset, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._arrived.set()
        self._empty.clear()
        return job.done

    def drain(self) -> None:
        """Submit nothing more; what was submitted may still be committed."""
        if self.state is State.RUNNING:
            self._to(State.DRAINING)
        elif self.state not in (State.DRAINING, State.REVOKED):  # once more, or it has given up
            self._to(State.REVOKED)  # nothing of it was submitted
            self._running.cancel()

    async def close(self) -> None:
        """Leave no transaction open: the one under way may end, for a while, or is aborted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._empty.wait()
        if self.state is not State.REVOKED:
            self._to(State.REVOKED)
        self._running.cancel()
        await asyncio.wait({self._running})
        self._take_back()
        await self._transactions.abort()
        await self._transactions.drop()

    async def _run(self) -> None:
        while self.state not in (State.DRAINING, State.REVOKED):
            try:
                await self._transactions.open()
                self._to(State.SEEKING)
                self._epoch = self._transactions.epoch
                self.committed = self._submitted = await self._seek()
                self._to(State.RUNNING)
                await self._serve()
            except Exception as error:
                await self._recover(error)

    async def _serve(self) -> None:
        """Transactions, one after another, until one fails. One takes all groups that wait: what
        it costs beside its outputs, five answers of the broker, is the same for any number.
        """
        while True:
            await self._begin_ahead()
            jobs = list(self._jobs)
            # Whoever opened later has committed offsets that we have not seen.
            assert self._transactions.epoch == self._epoch, "opened without seeking"
            await self._transactions.commit(_of_all(jobs), jobs[-1].next_offset)
            self.committed = jobs[-1].next_offset
            self._trouble_since = None
            for _ in jobs:
                self._finish()

    async def _begin_ahead(self) -> None:
        """Returns once a job waits. A broker that is away meanwhile is no trouble until then:
        nobody waits for it, and a worker without work ends for no outage.
        """
        try:
            if self.state is State.RUNNING:
                await self._transactions.begin()
            if not await self._arrived_within(IDLE_S):
                await self._transactions.leave()
                await self._arrived_within(None)
        except Exception as error:
            if not self._jobs and not isinstance(error, (ProducerFenced, *HOPELESS)):
                log.info("%s: %r, and nothing waits for it", self._transactions.id, error)
                await self._transactions.drop()  # aiokafka would ask and log for ever
                await self._arrived_within(None)
            raise

    async def _arrived_within(self, seconds: float | None) -> bool:
        """Whether a job waits, or comes in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._jobs:
                    self._arrived.clear()
                    await self._arrived.wait()
        return bool(self._jobs)

    async def _recover(self, error: Exception) -> None:
        """Back to `assigned`; the end, if partitions are being taken away or it is hopeless."""
        over = self.state is State.DRAINING
        hopeless = not over and (isinstance(error, HOPELESS) or self._troubled_s() > GIVE_UP_S)
        told = "ends" if over or hopeless else "begins anew"
        log.warning("%s: %s after %r, %s", self._transactions.id, told, error, self.state.value)
        self._to(State.REVOKED if over or hopeless else State.ASSIGNED)
        self._rewind()
        self._take_back()
        if self.state is State.REVOKED:  # else opening it anew ends what is open
            await self._transactions.abort()
        await self._transactions.drop()
        if hopeless:
            await self._give_up(OutboxUnavailable(f"Kafka did not take the outputs: {error!r}"))
        elif not over:
            await asyncio.sleep(FENCED_PAUSE_S if isinstance(error, ProducerFenced) else PAUSE_S)

    def _troubled_s(self) -> float:
        """How long nothing succeeded, with trouble at least every GIVE_UP_S."""
        now = time.monotonic()
        if self._trouble_since is None or now - self._trouble_last > GIVE_UP_S:
            self._trouble_since = now
        self._trouble_last = now
        return now - self._trouble_since

    def _take_back(self) -> None:
        while self._jobs:
            self._finish(OutputsWithdrawn(f"{self._transactions.id}: the records come again"))

    def _finish(self, error: Exception | None = None) -> None:
        """The first job has ended."""
        done = self._jobs.popleft().done
        if not self._jobs:
            self._empty.set()
        if done.done():  # whoever waited was cancelled
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
            done.exception()  # a group that went stale meanwhile does not look

    def _to(self, state: State) -> None:
        assert state in NEXT[self.state], f"{self.state.value} -> {state.value}"
        self.state = state


def _of_all(jobs: Sequence[Job]) -> Write:
    """Writes the outputs of one after the other."""

    async def write(producer: Any) -> list[Awaitable[Any]]:
        return [delivery for job in jobs for delivery in await job.write(producer)]

    return write
