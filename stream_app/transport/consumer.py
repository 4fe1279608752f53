"""Stage 0: record batches out of Kafka, commits back into it; at least once.

Faust hands out single messages and acks them by offset. Here a run of records is one message, and
each run has a `Delivery` in its partition's `Ledger`: the commit is the end of the acked prefix.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream_app.core.ledger import Ledger
from stream_app.core.record import Record, Source
from stream_app.transport.batches import BatchMessage
from stream_app.transport.thread import FetchThread

BATCH_RECORDS = 2048  # so that partitions take turns, in as many as a group is to have
POLL_S = 0.2
DRAIN_S = 5.0  # for Kafka to confirm what is published; below the session timeout


class BatchConsumer(driver.Consumer):
    """Delivers record batches to the agents, and commits what they acked."""

    _thread: FetchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledgers: dict[TP, Ledger] = {}
        self._commit_fut: asyncio.Future[None] | None = None
        self._polling = asyncio.Lock()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    def assigned(self) -> list[Source]:
        """The partitions that we read."""
        return [Source(tp.topic, tp.partition) for tp in self.ledgers]

    def committed(self, source: Source) -> int:
        """The offset of `source` before which everything is committed."""
        ledger = self.ledgers.get(TP(source.topic, source.partition))
        return ledger.committed if ledger else 0

    def behind(self, source: Source) -> int:
        """Records of `source` that are not committed; counts the gaps that transactions leave."""
        tp = TP(source.topic, source.partition)
        return max(0, (self.highwater(tp) or 0) - self.committed(source))

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                polled = await self._poll()
                if not polled:
                    await asyncio.sleep(0)
                elif self.flow_active:
                    await self._deliver(polled)
                # Otherwise polled while partitions are revoked. They come again: Faust seeks before
                # the flow goes on. To seek here would forget what is being drained.
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.transport.app.should_stop:
                raise

    async def _poll(self) -> Mapping[TP, list[Record]] | None:
        """What is there, begun only while the flow is on and never across a seek.

        A poll moves aiokafka's position when it ends. One that began before a rebalance and ended
        after its seek would take records along that nobody is given.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        async with self._polling:
            if not self.flow_active:
                return None
            polled: Mapping[TP, list[Record]] | None = (await self._wait_next_records(POLL_S))[0]
            return polled

    async def _deliver(self, polled: Mapping[TP, list[Record]]) -> None:
        generation = self.app.consumer_generation_id
        ledgers = dict(self.ledgers)  # for which these records were polled
        suspended = asyncio.ensure_future(self.suspend_flow.wait())
        try:
            for tp, records in _in_turns(polled):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return  # revoked; the next owner, maybe ourselves, reads from the commit
                ledger = ledgers.get(tp)
                if ledger is None or not self._reads(tp, ledger):
                    continue
                fresh = self._unread(tp, records)
                if not fresh:
                    continue
                delivery = ledger.deliver(fresh[-1].offset + 1)
                batch = BatchMessage(Source(tp.topic, tp.partition), fresh, delivery)
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                handed_on = asyncio.ensure_future(self.callback(self._to_message(tp, batch)))
                await asyncio.wait({handed_on, suspended}, return_when=asyncio.FIRST_COMPLETED)
                if not handed_on.done():
                    handed_on.cancel()
                    return
                handed_on.result()
                if self._reads(tp, ledger):
                    self._read_offset[tp] = delivery.next_offset
        finally:
            suspended.cancel()

    def _reads(self, tp: TP, ledger: Ledger) -> bool:
        """Whether the partition is still ours, and was not sought anew since."""
        return self.ledgers.get(tp) is ledger

    def _unread(self, tp: TP, records: list[Record]) -> list[Record]:
        """Without what came before the place we read from."""
        place = self._read_offset[tp]
        if place is not None and records[0].offset < place:
            return [r for r in records if r.offset >= place]
        return records

    def on_buffer_full(self, tp: TP) -> None:
        """Faust would leave the partition out of polls. There is no need: a full queue holds the
        delivery, and with it the next poll.
        """

    # -- commits

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the acked prefix of every partition. True if a commit was made."""
        if await self.maybe_wait_for_commit_to_finish():
            return False
        done = asyncio.get_running_loop().create_future()
        self._commit_fut = done
        try:
            wanted = {
                tp: offset
                for tp, ledger in self.ledgers.items()
                if (offset := ledger.committable()) is not None
            }
            if not wanted or not await self._store(wanted):
                return False
            for tp, offset in wanted.items():
                if tp in self.ledgers:
                    self.ledgers[tp].committed = offset
            self._committed_offset.update(wanted)
            self.app.monitor.on_tp_commit(wanted)
            return True
        finally:
            self._commit_fut = None
            done.set_result(None)

    async def _store(self, offsets: Mapping[TP, int]) -> bool:
        """Tell the broker. False: it did not take them, the next commit tries again."""
        stored: bool = await self._thread.commit(offsets)
        return stored

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watch for stuck single messages knows nothing of batches; /health has its own."""

    # -- rebalance and stop

    async def perform_seek(self) -> None:
        """Start every assigned partition anew, from its committed offset."""
        await self._start_anew(self.assignment())

    async def _start_anew(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Read these from their committed offsets, which are returned."""
        async with self._polling:
            starts = await self._thread.seek_to_start(partitions)
            for tp, offset in starts.items():
                if tp in self.ledgers:
                    self.ledgers[tp].forget()
                self.ledgers[tp] = Ledger(offset)
                self._read_offset[tp] = offset
                self._committed_offset[tp] = offset
                self.transport.begins(Source(tp.topic, tp.partition))
        return starts

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Wait for what is published, commit it, forget the partitions."""
        self._active_partitions.difference_update(revoked)
        self._paused_partitions.difference_update(revoked)
        await self._on_partitions_revoked(revoked)  # Faust: stops the flow, then `wait_empty`
        for tp in revoked:
            if ledger := self.ledgers.pop(tp, None):
                ledger.forget()
            self._read_offset.pop(tp, None)
            self._committed_offset.pop(tp, None)

    async def wait_empty(self) -> None:
        """Publish nothing more; wait for the acks of what is published, at most DRAIN_S; commit."""
        for ledger in self.ledgers.values():
            ledger.drain()
        deadline = time.monotonic() + DRAIN_S
        while not all(ledger.settled() for ledger in self.ledgers.values()):
            if self.app.crashed or time.monotonic() > deadline:
                self.log.warning("not all acks came in time; what is open will be delivered again")
                for ledger in self.ledgers.values():
                    ledger.forget()
                return
            # Another commit may be in flight, and this one then does nothing: so look again.
            if not await self.commit():
                await asyncio.sleep(0.01)


def _in_turns(polled: Mapping[TP, list[Record]]) -> Iterator[tuple[TP, list[Record]]]:
    """At most BATCH_RECORDS of each partition in turn, so that none waits for another's backlog."""
    begin = 0
    while any(begin < len(records) for records in polled.values()):
        for tp, records in polled.items():
            if begin < len(records):
                yield tp, records[begin : begin + BATCH_RECORDS]
        begin += BATCH_RECORDS
