"""The records of one partition on their way through the pipeline: grouping, order, overlap, acks.

    waiting deque --coalesce--> group --[reading turn]--> windows --[output turn]--> outputs --> ack

What waits becomes one group when the partition's window stage is free: no timer, and small groups
only while there is little to do. The two turns are handed over like a rope: the next group may read
windows while the last one is scored, and none overtakes another. Up to `in_flight` groups are on
their way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from stream_app.core.errors import OutputsWithdrawn, StoreUnavailable
from stream_app.core.outcome import Outcome, Seen
from stream_app.core.ports import Meter
from stream_app.core.record import Record, RecordBatch, Source
from stream_app.pipeline import Pipeline

Answer = TypeVar("Answer")


class FlowPolicy(Struct, frozen=True, kw_only=True):
    """How much of a partition is on its way at once."""

    group_records: int = 2048  # of a group at most
    first_group: int = 256  # how large, before we know how fast we are
    smallest_group: int = 16
    group_target_s: float = 1.0  # groups shrink until one takes no longer: a quick stop
    in_flight: int = 3  # groups
    waiting_records: int = 8192  # beyond it the agent, and then Kafka, waits
    coalesce_behind: int = 0  # records behind from which fewer windows are scored; 0: never
    retry_first_s: float = 0.1
    retry_last_s: float = 2.0


class Partition:
    """One partition of one input topic: made for its first records, closed with the worker."""

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        committed: Callable[[Source], Sequence[int]],
        behind: Callable[[Source], int],
        flow: FlowPolicy,
        meter: Meter,
        failed: Callable[[BaseException], None],
    ) -> None:
        """`committed`: its committed seqs; `behind`: its records that are not committed; `failed`
        hears what ends the worker.
        """
        self._source = source
        self._pipeline = pipeline
        self._committed = committed
        self._behind = behind
        self._flow = flow
        self._meter = meter
        self._failed = failed
        self._waiting: deque[RecordBatch] = deque()
        self._waiting_records = 0
        self._closed = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._slots = asyncio.Semaphore(flow.in_flight)
        self._reading = asyncio.Lock()
        self._output = asyncio.Lock()
        self._group_records = min(flow.first_group, flow.group_records)
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._run())

    async def put(self, batch: RecordBatch) -> None:
        """Queue a batch; waits while too many records wait already, and the partition is open."""
        self._waiting.append(batch)
        self._waiting_records += len(batch)
        self._arrived.set()
        while self._waiting_records > self._flow.waiting_records and not self._closed:
            self._room.clear()
            await self._room.wait()

    async def close(self) -> None:
        """Stop at once; what is not acked comes again."""
        self._closed = True
        self._room.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._slots.acquire()
            await self._reading.acquire()
            self._start(self._process(self._coalesce()))

    def _coalesce(self) -> list[RecordBatch]:
        """All that waits and is still ours, up to the group size."""
        group: list[RecordBatch] = []
        room = self._group_records
        while self._waiting and room > 0:
            batch = self._waiting.popleft()
            if not batch.delivery.stale:
                if len(batch) > room:
                    batch, rest = batch.cut(room)
                    self._waiting.appendleft(rest)
                group.append(batch)
                room -= len(batch)
            self._waiting_records -= len(batch)
        if not self._waiting:
            self._arrived.clear()
        self._room.set()
        return group

    async def _process(self, group: list[RecordBatch]) -> None:
        """Take one group all the way. Enters with a slot and the reading turn in hand."""
        try:
            await self._lead(group)
        finally:
            self._slots.release()

    async def _lead(self, group: list[RecordBatch]) -> None:
        began = time.monotonic()
        records = [record for batch in group for record in batch.records]
        if not records:  # all that waited had gone stale
            self._reading.release()
            return
        try:
            try:
                seen = await self._insist(lambda: self._read(records), group)
                await self._output.acquire()
            finally:
                self._reading.release()
            try:
                decided = await self._insist(lambda: self._pipeline.decide(seen), group)
                outcome = self._pipeline.compose(decided)
                _drop_if_stale(group)
                for batch in group:
                    batch.delivery.publish()
                next_offset = records[-1].offset + 1
                confirmed = await self._pipeline.publish(self._source, next_offset, outcome)
            finally:
                self._output.release()
            await confirmed
        except (_Stale, OutputsWithdrawn):
            return
        for batch in group:
            batch.delivery.ack()
        self._settle(records, outcome, time.monotonic() - began)

    async def _read(self, records: Sequence[Record]) -> Seen:
        source, bound = self._source, self._flow.coalesce_behind
        coalesce = bound > 0 and self._behind(source) > bound
        return await self._pipeline.read(source, records, self._committed(source), coalesce)

    async def _insist(
        self, attempt: Callable[[], Awaitable[Answer]], group: list[RecordBatch]
    ) -> Answer:
        """Try until Redis answers; meanwhile this partition stands still and loses nothing."""
        pause_s = self._flow.retry_first_s
        while True:
            _drop_if_stale(group)
            try:
                return await attempt()
            except StoreUnavailable as error:
                self._meter.waiting(self._source, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._flow.retry_last_s)

    def _settle(self, records: Sequence[Record], outcome: Outcome, took_s: float) -> None:
        """Count the group, and size the next ones so that they take about `group_target_s`."""
        self._meter.group(self._source, records, outcome, took_s)
        target_s, flow = self._flow.group_target_s, self._flow
        if took_s > target_s:
            smaller = int(min(len(records), self._group_records) * target_s / took_s)
            self._group_records = max(flow.smallest_group, smaller)
        elif took_s < target_s / 2:
            self._group_records = min(flow.group_records, self._group_records * 2)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failed(error)


class _Stale(Exception):
    """The partition was taken away while its group was on the way; somebody else has it now."""


def _drop_if_stale(group: list[RecordBatch]) -> None:
    if any(batch.delivery.stale for batch in group):
        raise _Stale
