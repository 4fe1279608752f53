"""The running worker: batches to their partitions, commits to the windows, health to people.

Stands between Faust's agents and the pipeline, and knows neither Redis nor torch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

from stream_app.core.ports import Scorer
from stream_app.core.record import RecordBatch, Source
from stream_app.core.window import seq_of, source_tag
from stream_app.edges.metrics import PrometheusMeter
from stream_app.edges.web import Health
from stream_app.partition import FlowPolicy, Partition
from stream_app.pipeline import Pipeline

STUCK_S = 60.0  # records wait and none is acked for so long: say so, whatever the cause


class Offsets(Protocol):
    """What the consumer knows of its partitions."""

    def assigned(self) -> list[Source]: ...
    def committed(self, source: Source) -> int: ...
    def behind(self, source: Source) -> int: ...


class Monitor:
    """One worker's partitions. Made before the app, told of its consumer by `attach`."""

    def __init__(
        self,
        pipeline: Pipeline,
        flow: FlowPolicy,
        meter: PrometheusMeter,
        scorer: Scorer,
    ) -> None:
        self._pipeline = pipeline
        self._flow = flow
        self._meter = meter
        self._scorer = scorer
        self._partitions: dict[Source, Partition] = {}
        self._offsets: Callable[[], Offsets | None] = lambda: None
        self._crash: Callable[[BaseException], Awaitable[None]] | None = None
        self._crashing: asyncio.Future[None] | None = None

    def attach(
        self,
        offsets: Callable[[], Offsets | None],
        crash: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        """`crash` stops the worker, non-zero."""
        self._offsets, self._crash = offsets, crash

    async def process(self, batch: RecordBatch) -> None:
        """Queue a batch with its partition; waits while that has enough."""
        partition = self._partitions.get(batch.source)
        if partition is None:
            partition = self._partitions[batch.source] = Partition(
                batch.source,
                self._pipeline,
                self._committed,
                self._behind,
                self._flow,
                self._meter,
                self._failed,
            )
        await partition.put(batch)

    async def close(self) -> None:
        """After the consumer has drained: what is still on its way is dropped, not acked."""
        await asyncio.gather(*(p.close() for p in self._partitions.values()))
        self._partitions.clear()

    def health(self) -> Health:
        """What is wrong, if anything; partitions and lag as of now."""
        offsets = self._offsets()
        sources = offsets.assigned() if offsets else []
        behind = sum(self._lag(offsets, source) for source in sources) if offsets else 0
        status, why = self._diagnosis(sources, behind)
        return Health(
            status=status,
            why=why,
            partitions=len(sources),
            lag_records=behind,
            model=self._scorer.version,
            device=self._scorer.device,
        )

    def metrics(self) -> bytes:
        """Prometheus' page, with the lag as of now."""
        self.health()
        return self._meter.page()

    def _diagnosis(
        self, sources: Sequence[Source], behind: int
    ) -> tuple[Literal["ok", "starting", "degraded"], str]:
        waiting = [s for s in sources if s in self._meter.waiting_since]
        idle_s = time.monotonic() - self._meter.last_group_s
        if not sources:
            return "starting", "no partition is assigned (yet, or other workers have them all)"
        if waiting:
            return "degraded", f"{len(waiting)} partitions stand still: {self._meter.waiting_for}"
        if behind and idle_s > STUCK_S:
            return "degraded", f"{behind} records wait, but none was finished for {idle_s:.0f} s"
        return "ok", ""

    def _lag(self, offsets: Offsets, source: Source) -> int:
        behind = offsets.behind(source)
        self._meter.lag(source, behind)
        return behind

    def _committed(self, source: Source) -> list[int]:
        """The committed seqs of all input topics' partitions of this number that are ours."""
        offsets = self._offsets()
        if offsets is None:
            return []
        return [
            seq_of(source_tag(other.topic), offsets.committed(other))
            for other in offsets.assigned()
            if other.partition == source.partition
        ]

    def _behind(self, source: Source) -> int:
        offsets = self._offsets()
        return offsets.behind(source) if offsets else 0

    def _failed(self, error: BaseException) -> None:
        if self._crash is not None and self._crashing is None:
            self._crashing = asyncio.ensure_future(self._crash(error))
