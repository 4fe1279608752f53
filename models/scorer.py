"""`ports.Scorer` for a bundle: the running system's one door to torch.

A thread of its own takes all requests that wait, scores them as one batch, and hands each its part;
the event loop never waits for the device. A window that cannot be scored is found by halving and
comes back as NaN; its neighbours are unharmed. A device that does not answer any more, or hangs,
ends the scorer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Bundle, fused
from models.committee import Opinions, hear
from models.flat import FlatBert, Precision, suits
from models.inference import TOKENS, Raw, run
from models.packing import sound
from models.reasons import Explainer
from models.recorded import Reading, RecordedReader
from stream_app.core.decision import Thresholds, decide
from stream_app.core.errors import DeviceFailed, Misconfigured
from stream_app.core.event import Tasks
from stream_app.core.score import NO_SCORES, Floats, Reason, Scores
from stream_app.core.window import Ints, Windows, concat

_log = logging.getLogger(__name__)
HANG_S: Final = 600.0  # on one batch; a large model on one slow core may take minutes
LOOK_S: Final = 5.0  # how often a hanging device is looked for
CLOSE_S: Final = 10.0  # for what runs when the scorer is closed
_AHEAD: Final = 16  # passes' worth of events taken from the queue at once
_FEW: Final = 1024  # windows that are told how likely they are at once: sooner than a second pass
_LIKELY: Final = 16_384  # events of a recorded pass that tells so
_UNDER_WAY: Final = 2  # batches on a GPU at once: the host sees to one while the other is computed
_LOOK_OFTEN_S: Final = 5e-5  # whether the device is done, while no request comes


class _Request(Struct):
    windows: Windows
    tasks: Ints
    explain: bool
    settle: Callable[[Any, DeviceFailed | None], None]


class _Begun(Struct, frozen=True):
    """A batch that the device computes."""

    requests: list[_Request]
    windows: Windows
    tasks: Ints
    reading: Reading


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
        self._recorded: RecordedReader | None = None
        self._likely: RecordedReader | None = None  # tells how likely windows are, too
        if flat := _flat(bundle, precision):
            self._recorded = RecordedReader(flat, bundle.device, likelihood=likelihood)
            self._likely = self._recorded
            if not likelihood:
                self._likely = RecordedReader(flat, bundle.device, _LIKELY, likelihood=True)
        self._likelihood = likelihood
        self._threads = threads
        self._tokens = tokens or TOKENS[bundle.device.type]
        self._tasks = bundle.schema.tasks
        self._thresholds = bundle.calibration.decision
        self._explainer = Explainer(bundle.network, bundle.statistics, bundle.device)
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lost: DeviceFailed | None = None
        self._closed = False
        self._since: float | None = None  # monotonic s: the thread works on a batch
        self._begun: deque[_Begun] = deque()  # oldest first; of the thread alone
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
        return self._tasks

    @property
    def thresholds(self) -> Thresholds:
        return self._thresholds

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
                    self._finish_all()
                    self._settle([request], lambda r: [self._explain(r[0].windows, r[0].tasks)])
        self._finish_all()
        self._lost = self._lost or DeviceFailed("The scorer is closed.")
        while not self._queue.empty():  # asked while it was closing
            late = self._queue.get()
            if late is not None:
                late.settle(None, self._lost)

    def _next(self) -> _Request | None:
        """What is asked next, None at the end; until then, settles what the device is done with."""
        while self._begun:
            if len(self._begun) >= _UNDER_WAY or self._begun[0].reading.over():
                self._finish()
                continue
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_LOOK_OFTEN_S)
        return self._queue.get()

    def _answer(self, requests: list[_Request]) -> None:
        if requests and not self._begin(requests):
            self._finish_all()
            self._settle(requests, self._score)

    def _begin(self, requests: list[_Request]) -> bool:
        """Whether the device computes them now, to be settled when it is done."""
        if self._lost is not None or self._likely is None or self._recorded is None:
            return False
        self._since = self._since or time.monotonic()
        try:
            windows, tasks = _joined(requests)
            reader = self._likely if len(windows) <= _FEW else self._recorded
            if len(windows) > reader.most or not self._sound(windows).all():
                return False
            reading = reader.begin(windows)
        except Exception as error:  # the general way finds the window that fails, or the device
            _log.debug("a batch is scored again: %r", error)
            return False
        self._begun.append(_Begun(requests, windows, tasks, reading))
        return True

    def _finish(self) -> None:
        begun = self._begun.popleft()
        self._settle(begun.requests, lambda _: self._finished(begun))
        if self._begun:
            self._since = time.monotonic()

    def _finish_all(self) -> None:
        while self._begun:
            self._finish()

    def _finished(self, begun: _Begun) -> list[Scores]:
        try:
            read = begun.reading.collect()
        except Exception as error:
            self._check_device(error)
            return self._score(begun.requests)
        said = _own(read, begun.tasks)
        return _parted(self._scores(begun.windows, begun.tasks, said), begun.requests)

    def _settle(
        self, requests: list[_Request], answer: Callable[[list[_Request]], list[Any]]
    ) -> None:
        self._since = time.monotonic()
        try:
            if self._lost is not None:
                raise self._lost
            answers = answer(requests)
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

    def _score(self, requests: list[_Request]) -> list[Scores]:
        windows, tasks = _joined(requests)
        fine = np.flatnonzero(self._sound(windows))
        if len(fine) < len(windows):
            _log.warning("%d windows are out of bounds and get no score", len(windows) - len(fine))
            found = Scores(*(np.full(len(windows), np.nan, np.float32) for _ in range(3)))
            few, own = windows.take(fine), tasks[fine]
            some = self._scores(few, own, self._hear(few, own))
            found.calibrated[fine], found.surprise[fine] = some.calibrated, some.surprise
            found.log_likelihood[fine] = some.log_likelihood
        else:
            found = self._scores(windows, tasks, self._hear(windows, tasks))
        return _parted(found, requests)

    def _scores(self, windows: Windows, tasks: Ints, said: Opinions) -> Scores:
        calibrated = self.bundle.calibration.apply(fused(self.bundle, said, tasks), tasks)
        anomalous = decide(calibrated, self._thresholds.of(windows, tasks))
        which = np.flatnonzero(anomalous & np.isnan(said.log_likelihood))
        if len(which):
            said.log_likelihood[which] = self._told(windows.take(which))
        if not self._likelihood:
            said.log_likelihood[~anomalous] = np.nan  # whatever batch they came in
        return Scores(calibrated, said.surprise, said.log_likelihood)

    def _hear(self, windows: Windows, tasks: Ints) -> Opinions:
        """Halves the batch until the window that fails is alone."""
        bundle = self.bundle
        try:
            reader = self._likely if len(windows) <= _FEW else self._recorded
            if reader is not None:
                return _own(reader.run(windows), tasks)
            return hear(
                bundle.members,
                bundle.chosen,
                windows,
                tasks,
                bundle.device,
                self._tokens,
                self._likelihood,
                self._threads,
            )
        except DeviceFailed:
            raise
        except Exception as error:
            self._check_device(error)
            if len(windows) <= 1:
                _log.warning("a window cannot be scored: %s", error)
                raw = np.full((len(windows), len(bundle.chosen)), np.nan, np.float32)
                return Opinions(raw, *(np.full(len(windows), np.nan, np.float32) for _ in range(2)))
        parts = [
            self._hear(windows.take(which), tasks[which])
            for which in np.array_split(np.arange(len(windows)), 2)
        ]
        return Opinions(
            np.concatenate([part.raw for part in parts]),
            np.concatenate([part.surprise for part in parts]),
            np.concatenate([part.log_likelihood for part in parts]),
        )

    def _told(self, windows: Windows) -> Floats:
        """The log-likelihood of windows whose score is known; NaN should that fail."""
        network, device = self.bundle.network, self.bundle.device
        try:
            if self._likely is not None:
                return self._likely.run(windows).log_likelihood
            return run(network, windows, device, self._tokens, likelihood=True).log_likelihood
        except Exception as error:
            self._check_device(error)
            _log.warning("the likelihood of %d windows cannot be told: %s", len(windows), error)
            return np.full(len(windows), np.nan, np.float32)

    def _explain(self, windows: Windows, tasks: Ints) -> list[tuple[Reason, ...]]:
        found: list[tuple[Reason, ...]] = [()] * len(windows)
        fine = np.flatnonzero(self._sound(windows))

        def explain(which: Ints) -> None:
            try:
                some = self._explainer.explain(windows.take(which), tasks[which].tolist())
            except Exception as error:
                self._check_device(error)
                if len(which) == 1:
                    _log.warning("a window cannot be explained: %s", error)
                    return
                explain(which[: len(which) // 2])
                explain(which[len(which) // 2 :])
            else:
                for at, reasons in zip(which, some, strict=True):
                    found[int(at)] = reasons

        if len(fine):
            explain(fine)
        return found

    def _check_device(self, error: Exception) -> None:
        """After a failure: raises DeviceFailed unless the device still answers."""
        if self.bundle.device.type == "cpu":
            return
        try:
            torch.cuda.empty_cache()
            torch.zeros(8, device=self.bundle.device).sum().item()
        except RuntimeError as lost:
            raise DeviceFailed(
                f"The device {self.bundle.device} does not answer any more ({error}). "
                "Restart the worker; if it happens again, look at the driver's log."
            ) from lost

    def _sound(self, windows: Windows) -> NDArray[np.bool_]:
        return sound(windows, len(self.bundle.schema.types), self._longest)

    @property
    def _longest(self) -> int:
        return min(e.config.window for e in self.bundle.members.encoders.values())


def _joined(requests: list[_Request]) -> tuple[Windows, Ints]:
    return concat([r.windows for r in requests]), np.concatenate([r.tasks for r in requests])


def _parted(found: Scores, requests: list[_Request]) -> list[Scores]:
    """To each request its own."""
    ends = np.cumsum([len(r.windows) for r in requests])[:-1]
    columns = (found.calibrated, found.surprise, found.log_likelihood)
    parts = zip(*(np.split(column, ends) for column in columns), strict=True)
    return [Scores(*part) for part in parts]


def _own(read: Raw, tasks: Ints) -> Opinions:
    """Under the tasks of the windows."""
    return Opinions(
        read.logits[np.arange(len(tasks)), tasks][:, None], read.surprise, read.log_likelihood
    )


def _flat(bundle: Bundle, precision: Precision) -> FlatBert | None:
    """Where a causal BERT alone scores on CUDA; to record it takes some seconds. None: the general
    way.
    """
    alone = bundle.chosen == (next(iter(bundle.members.encoders)),)
    if bundle.device.type == "cuda" and alone and suits(bundle.network):
        if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
            return FlatBert(bundle.network, precision)
        missing = "Triton needs a C compiler, and there is no gcc or clang here: install one"
        if precision == "bf16":
            _log.warning("the GPU scores several times slower than it could: %s", missing)
            return None
        raise Misconfigured(f"{missing}, or leave scorer.precision at bf16")
    if precision != "bf16":
        raise Misconfigured(
            f"{precision} is for a causal BERT that scores alone on CUDA, and here is none: leave "
            "scorer.precision at bf16, or choose scorer.members=bert and scorer.device=cuda"
        )
    return None
