"""`ports.Scorer` for a bundle: the running system's one door to torch.

A thread of its own takes all requests that wait, has them judged as one batch, and hands each its
part; the event loop never waits for the device. A device that does not answer any more, or hangs,
ends the scorer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct

from models.bundle import Bundle
from models.flat import Precision
from models.inference import TOKENS
from models.judge import Begun, Judge
from stream_app.core.decision import Thresholds
from stream_app.core.errors import DeviceFailed
from stream_app.core.event import Tasks
from stream_app.core.score import NO_SCORES, Reason, Scores
from stream_app.core.window import Ints, Windows, concat

_log = logging.getLogger(__name__)
HANG_S: Final = 600.0  # on one batch; a large model on one slow core may take minutes
LOOK_S: Final = 5.0  # how often a hanging device is looked for
CLOSE_S: Final = 10.0  # for what runs when the scorer is closed
_AHEAD: Final = 16  # passes' worth of events taken from the queue at once
_UNDER_WAY: Final = 2  # batches on a GPU at once: the host sees to one while the other is computed
_LOOK_OFTEN_S: Final = 5e-5  # whether the device is done, while no request comes


class _Request(Struct):
    windows: Windows
    tasks: Ints
    explain: bool
    settle: Callable[[Any, DeviceFailed | None], None]


class BundleScorer:
    """`threads`: on a CPU, 0 as torch decides. `tokens`: events a pass, 0 as measured.
    `likelihood`: tell that of every window, not of the anomalous ones alone, whose alerts need it.
    `precision`: of a BERT's linear layers on CUDA. Raises Misconfigured where there is no fp8.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        tokens: int = 0,
        likelihood: bool = False,
        precision: Precision = "bf16",
    ) -> None:
        self.bundle = bundle
        self._threads = threads
        self._tokens = tokens or TOKENS[bundle.device.type]
        self._judge = Judge(bundle, threads, self._tokens, likelihood, precision)
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lost: DeviceFailed | None = None
        self._closed = False
        self._since: float | None = None  # monotonic s: the thread works on a batch
        # Oldest first; of the thread alone.
        self._begun: deque[tuple[list[_Request], Begun]] = deque()
        self._thread = threading.Thread(target=self._work, name="scorer", daemon=True)
        self._thread.start()

    @property
    def version(self) -> str:
        return self.bundle.version

    @property
    def device(self) -> str:
        return self.bundle.device.type

    @property
    def tasks(self) -> Tasks:
        return self.bundle.schema.tasks

    @property
    def thresholds(self) -> Thresholds:
        return self.bundle.calibration.decision

    async def score(self, windows: Windows, tasks: Ints) -> Scores:
        if not len(windows):
            return NO_SCORES
        scores: Scores = await self._told_of(self._ask(windows, tasks, explain=False))
        return scores

    async def explain(self, windows: Windows, tasks: Ints) -> list[tuple[Reason, ...]]:
        if not len(windows):
            return []
        asked = self._ask(windows, tasks, explain=True)
        reasons: list[tuple[Reason, ...]] = await self._told_of(asked)
        return reasons

    def close(self) -> None:
        """Drop what waits, finish what runs, end the thread. The dropped raise DeviceFailed.

        A thread that hangs is left behind, and ends with the process.
        """
        self._closed = True
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def _ask(self, windows: Windows, tasks: Ints, explain: bool) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle_here(found: Any, error: DeviceFailed | None) -> None:
            if future.done():  # whoever asked has gone
                return
            if error is None:
                future.set_result(found)
            else:
                future.set_exception(error)

        def settle(found: Any, error: DeviceFailed | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle_here, found, error)

        if self._lost is not None or self._closed:
            future.set_exception(self._lost or DeviceFailed("The scorer is closed."))
        else:
            self._queue.put(_Request(windows, np.asarray(tasks, np.int64), explain, settle))
        return future

    async def _told_of(self, asked: asyncio.Future[Any]) -> Any:
        """The answer. Raises DeviceFailed, also if there will be none."""
        try:
            while not asked.done():
                await asyncio.wait({asked}, timeout=LOOK_S)
                since = self._since
                if not asked.done() and since is not None and time.monotonic() - since > HANG_S:
                    self._lost = DeviceFailed(
                        f"The device {self.bundle.device} has not answered for {HANG_S:g} s. "
                        "Restart the worker; if it happens again, look at the driver's log."
                    )
                    raise self._lost
            return asked.result()
        finally:
            asked.cancel()  # if nobody waits any more

    # On the scorer's own thread

    def _work(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)  # of the calling thread
        open_ = True
        while open_:
            waiting = self._next()
            batch: list[_Request] = []
            events = 0
            while waiting is not None:
                batch.append(waiting)
                events += int(waiting.windows.length.sum())
                if events >= _AHEAD * self._tokens or self._queue.empty():
                    break
                waiting = self._queue.get()
            open_ = not self._closed
            if self._closed:
                self._finish_all()
                self._lost = self._lost or DeviceFailed("The scorer is closed.")
            self._answer([r for r in batch if not r.explain])
            for request in batch:
                if request.explain:
                    self._explain(request)
        self._finish_all()
        self._lost = self._lost or DeviceFailed("The scorer is closed.")
        while not self._queue.empty():  # asked while it was closing
            late = self._queue.get()
            if late is not None:
                late.settle(None, self._lost)

    def _next(self) -> _Request | None:
        """What is asked next, None at the end; until then, settles what the device is done with."""
        while self._begun:
            if len(self._begun) >= _UNDER_WAY or self._begun[0][1].over():
                self._finish()
                continue
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_LOOK_OFTEN_S)
        return self._queue.get()

    def _answer(self, requests: list[_Request]) -> None:
        if requests and not self._begin(requests):
            self._finish_all()
            self._settle(requests, lambda: self._scored(requests))

    def _begin(self, requests: list[_Request]) -> bool:
        """Whether the device computes them now, to be settled when it is done."""
        if self._lost is not None:
            return False
        self._since = self._since or time.monotonic()
        try:
            begun = self._judge.begin(*_joined(requests))
        except Exception as error:  # the general way finds the window that fails, or the device
            _log.debug("a batch is scored again: %r", error)
            return False
        if begun is not None:
            self._begun.append((requests, begun))
        return begun is not None

    def _scored(self, requests: list[_Request]) -> list[Scores]:
        return _parted(self._judge.score(*_joined(requests)), requests)

    def _finish(self) -> None:
        requests, begun = self._begun.popleft()
        self._settle(requests, lambda: _parted(self._judge.collect(begun), requests))
        if self._begun:
            self._since = time.monotonic()

    def _finish_all(self) -> None:
        while self._begun:
            self._finish()

    def _explain(self, request: _Request) -> None:
        self._finish_all()
        self._settle([request], lambda: [self._judge.explain(request.windows, request.tasks)])

    def _settle(self, requests: list[_Request], answer: Callable[[], list[Any]]) -> None:
        self._since = time.monotonic()
        try:
            if self._lost is not None:
                raise self._lost
            answers = answer()
        except Exception as error:  # whatever it is: who waits must hear of it
            if not isinstance(error, DeviceFailed):
                _log.exception("the scorer failed")
                error = DeviceFailed(f"The scorer failed: {error!r}. Restart the worker.")
            self._lost = error
            for request in requests:
                request.settle(None, error)
            return
        finally:
            self._since = None
        for request, found in zip(requests, answers, strict=True):
            request.settle(found, None)


def _joined(requests: list[_Request]) -> tuple[Windows, Ints]:
    return concat([r.windows for r in requests]), np.concatenate([r.tasks for r in requests])


def _parted(found: Scores, requests: list[_Request]) -> list[Scores]:
    """To each request its own."""
    ends = np.cumsum([len(r.windows) for r in requests])[:-1]
    columns = (found.calibrated, found.surprise, found.log_likelihood)
    parts = zip(*(np.split(column, ends) for column in columns), strict=True)
    return [Scores(*part) for part in parts]
