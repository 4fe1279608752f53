"""A consumer of ours without a broker: its thread is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from stream_app.core.record import RecordBatch, StoredRecord
from stream_app.transport.batches import BatchSchema
from stream_app.transport.consumer import BatchConsumer
from stream_app.transport.transport import BatchTransport

CONNECTION = {"bootstrap_servers": ["127.0.0.1:1"]}
TP0 = TP("shop.events", 0)
TP1 = TP("shop.events", 1)


def app_in(folder: Path, transport: type[BatchTransport] = BatchTransport) -> faust.App:
    """An app with a transport of ours; nothing of it is started."""
    app = faust.App(
        "contract",
        broker="kafka://127.0.0.1:1",
        datadir=str(folder),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=True,
    )
    app.transport = transport(app, CONNECTION)
    return app


class PlayedThread:
    """Stands for `FetchThread`: polls give what the test has put in, commits are noted."""

    def __init__(self, starts: Mapping[TP, int]) -> None:
        self.starts = dict(starts)
        self.polls: asyncio.Queue[dict[TP, list[StoredRecord]]] = asyncio.Queue()
        self.polling = asyncio.Event()
        self.commits: list[dict[TP, int]] = []
        self.commits_succeed = True
        self.seeks = 0

    def assignment(self) -> set[TP]:
        return set(self.starts)

    def highwater(self, tp: TP) -> int:
        return 1000

    async def getmany(
        self,
        active: object,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> dict[TP, list[StoredRecord]]:
        self.polling.set()
        try:
            return await asyncio.wait_for(self.polls.get(), timeout)
        except TimeoutError:
            return {}

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        await asyncio.sleep(0)
        if self.commits_succeed:
            self.commits.append(dict(offsets))
            self.starts.update(offsets)
        return self.commits_succeed

    async def seek_to_start(self, partitions: Iterable[TP]) -> dict[TP, int]:
        self.seeks += 1
        return {tp: self.starts[tp] for tp in partitions}


class PlayedFetcher:
    """Stands for Faust's service that drains the consumer."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()


class Played:
    """A consumer over a played thread, and the batches it handed on."""

    def __init__(
        self,
        folder: Path,
        starts: Mapping[TP, int],
        transport: type[BatchTransport] = BatchTransport,
    ) -> None:
        self.app = app_in(folder, transport)
        self.delivered: list[RecordBatch] = []
        self.room = asyncio.Event()  # clear: the agent's queue is full
        self.room.set()
        self.revoked: list[set[TP]] = []
        self.consumer: BatchConsumer = transport.Consumer(
            self.app.transport,
            callback=self._deliver,
            on_partitions_revoked=self._revoked,
            on_partitions_assigned=self._assigned,
        )
        self.app.consumer = self.consumer
        self.thread = PlayedThread(starts)
        self.consumer._thread.thread_loop.close()
        self.consumer._thread = self.thread  # type: ignore[assignment]

    async def _deliver(self, message: Any) -> None:
        await self.room.wait()
        self.delivered.append(message.value)

    async def _revoked(self, revoked: set[TP]) -> None:
        """What Faust does then, in its order (see `test_contract`)."""
        self.revoked.append(revoked)
        self.consumer.stop_flow()
        await self.consumer.wait_empty()

    async def _assigned(self, assigned: set[TP], generation: int = 0) -> None:
        raise NotImplementedError

    async def assign(self) -> None:
        """As Faust does after a rebalance: seek, then let records flow."""
        self.consumer._set_active_tps(self.thread.assignment())
        await self.consumer.perform_seek()
        self.consumer.resume_flow()


__all__ = ["CONNECTION", "TP0", "TP1", "BatchSchema", "Played", "PlayedFetcher", "app_in"]
