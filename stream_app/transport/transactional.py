"""Faust's transport for delivery exactly once: transactions commit the offsets, nobody else does.

Each partition of the input has a `Lane`, which is opened after its assignment, in the background:
no rebalance waits for a broker that ends somebody's transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from faust.types import TP

from stream_app.core.errors import OutputsWithdrawn
from stream_app.core.ledger import Ledger
from stream_app.core.record import Source
from stream_app.transport.consumer import BatchConsumer
from stream_app.transport.lane import Lane, State
from stream_app.transport.thread import FetchThread
from stream_app.transport.transactions import Transactions, maker
from stream_app.transport.transport import BatchTransport

SEEK_S: Final = 10.0


class NoCommitThread(FetchThread):
    """An offset that is committed beside the transactions could pass outputs that were aborted."""

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise AssertionError(f"offsets are committed by transactions alone, not {offsets}")


class TransactionalConsumer(BatchConsumer):
    """Delivers record batches of the partitions that run; commits only note what is acked."""

    transport: TransactionalTransport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lanes: dict[TP, Lane] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> FetchThread:
        return NoCommitThread(self, loop=self.loop, beacon=self.beacon)

    def lane(self, source: Source) -> Lane:
        """Raises OutputsWithdrawn if the partition is not ours (any more)."""
        lane = self._lanes.get(TP(source.topic, source.partition))
        if lane is None:
            raise OutputsWithdrawn(f"{source} is not ours")
        return lane

    # -- delivery, of what runs

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        running = {tp for tp in active_partitions or () if self._runs(tp)}
        if not running:
            await asyncio.sleep(0.02)
            return {}
        return await super()._getmany(running, timeout)

    def _reads(self, tp: TP, ledger: Ledger) -> bool:
        return self._runs(tp) and super()._reads(tp, ledger)

    def _runs(self, tp: TP) -> bool:
        return tp in self._lanes and self._lanes[tp].state is State.RUNNING

    # -- commits

    async def _store(self, offsets: Mapping[TP, int]) -> bool:
        """They are stored: acks come after the transaction."""
        for tp, offset in offsets.items():
            lane = self._lanes.get(tp)
            assert lane is None or offset <= lane.committed, f"{tp}: acked, but not committed"
        return True

    # -- rebalance and stop

    async def perform_seek(self) -> None:
        """Open the lanes. Until they seek, the offsets read here are the least that is committed:
        windows must keep all records after them.
        """
        await self._close_lanes()
        await super().perform_seek()
        self._lanes = {tp: self._open_lane(tp) for tp in self.assignment()}

    def _open_lane(self, tp: TP) -> Lane:
        transactions = Transactions(
            self.app.conf.id, Source(tp.topic, tp.partition), self.transport.make_producer
        )
        return Lane(
            transactions, partial(self._seek_lane, tp), partial(self._rewind, tp), self.app.crash
        )

    async def _seek_lane(self, tp: TP) -> int:
        async with asyncio.timeout(SEEK_S):
            return (await self._start_anew([tp]))[tp]

    def _rewind(self, tp: TP) -> None:
        if ledger := self.ledgers.get(tp):
            ledger.forget()

    async def wait_empty(self) -> None:
        """Before partitions are revoked, and before a stop: drain, then close every lane."""
        for lane in self._lanes.values():
            lane.drain()
        await super().wait_empty()
        await self._close_lanes()

    async def _close_lanes(self) -> None:
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.close() for lane in lanes.values()))


class TransactionalTransport(BatchTransport):
    """Like `BatchTransport`, but exactly once."""

    Consumer = TransactionalConsumer

    def __init__(self, app: Any, connection: Mapping[str, Any]) -> None:
        super().__init__(app, connection)
        conf = app.conf
        self.make_producer = maker(
            connection,
            client_id=conf.broker_client_id,
            acks="all",
            max_batch_size=conf.producer_max_batch_size,
            max_request_size=conf.producer_max_request_size,
            request_timeout_ms=10_000,
        )
