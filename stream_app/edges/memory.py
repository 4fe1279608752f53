"""Edges in memory: for offline scoring, and for tests without services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from stream_app.core.alerting import AlertPolicy, Anomaly, Verdict, Watch, step
from stream_app.core.logbook import LogBook
from stream_app.core.outcome import Message, Output
from stream_app.core.record import Source
from stream_app.core.window import Logs, Rows, WindowPolicy


class MemoryWindows:
    """A `WindowStore`; partitions do not matter, since a user is in one."""

    def __init__(self, row: np.dtype[np.void], policy: WindowPolicy) -> None:
        self._book = LogBook(row, policy)

    async def slide(
        self, source: Source, users: Sequence[bytes], rows: Rows, committed: Sequence[int]
    ) -> Logs:
        return self._book.slide(users, rows, committed)


class MemoryAlertLog:
    """An `AlertLog`."""

    def __init__(self, policy: AlertPolicy) -> None:
        self._policy = policy
        self._watches: dict[tuple[str, int], Watch] = {}

    async def judge(self, partition: int, anomalies: Sequence[Anomaly]) -> list[Verdict]:
        return [
            step(self._watches.setdefault((a.user_id, a.task), Watch()), a, self._policy)
            for a in anomalies
        ]


class MemoryOutbox:
    """An `Outbox` that keeps what was published, by output."""

    def __init__(self) -> None:
        self.messages: dict[Output, list[Message]] = {output: [] for output in Output}

    async def publish(
        self, partition: int, messages: Mapping[Output, Sequence[Message]]
    ) -> asyncio.Future[None]:
        for output, batch in messages.items():
            self.messages[output].extend(batch)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done
