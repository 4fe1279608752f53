"""Which stage of a running worker takes the CPU: timers put around its functions from outside.

CPU time of the thread, without that of the stages called inside. A coroutine is timed from each
resumption to the next suspension, so what others do while it waits is not counted. The product
knows nothing of this; a run with timers is slower and is not counted as a rate.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import stream_app.core.messages as messages
import stream_app.monitor as monitor
import stream_app.pipeline as pipeline
from models.encoding import SchemaEncoder
from stream_app.edges import outbox, redis_alerts, redis_client, redis_windows
from stream_app.edges.memory import FixedScorer
from stream_app.edges.metrics import PrometheusMeter

_KINDS = {"MainThread": "main", "redis": "redis", "Thread-1": "fetch"}  # by the threads' names
_spent: defaultdict[str, float] = defaultdict(float)  # s
_open = (
    threading.local()
)  # the stages that this thread is in: [s of the inner ones], innermost last


def _enter() -> float:
    if not hasattr(_open, "inner"):
        _open.inner = []
    _open.inner.append(0.0)
    return time.thread_time()


def _leave(stage: str, began: float) -> None:
    took = time.thread_time() - began
    inner: list[float] = _open.inner
    _spent[stage] += took - inner.pop()
    if inner:
        inner[-1] += took


def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        began = _enter()
        try:
            return function(*args, **kwargs)
        finally:
            _leave(stage, began)

    return measured


class _Steps:
    """An awaitable whose first step counts for one stage and whose further ones for another."""

    def __init__(self, first: str, then: str, inside: Coroutine[Any, Any, Any]) -> None:
        self._first, self._then, self._inside = first, then, inside

    def __await__(self) -> Generator[Any, Any, Any]:
        stage, answer, error = self._first, None, None
        while True:
            began = _enter()
            try:
                waits_for = (
                    self._inside.throw(error) if error is not None else self._inside.send(answer)
                )
            except StopIteration as done:
                return done.value
            finally:
                _leave(stage, began)
            stage, answer, error = self._then, None, None
            try:
                answer = yield waits_for
            except BaseException as thrown:
                error = thrown


def timed_steps(first: str, then: str, function: Callable[..., Any]) -> Callable[..., Any]:
    async def measured(*args: Any, **kwargs: Any) -> Any:
        return await _Steps(first, then, function(*args, **kwargs))

    return measured


def watch(file: Path) -> None:
    """Put the timers in place; each SIGHUP adds a line with what was spent so far to `file`.

    Faust takes the signals that one would think of first for itself.
    """
    put: list[tuple[Any, str, str, str]] = [
        (pipeline, "decode", "decode", ""),
        (SchemaEncoder, "encode", "encode", ""),
        (pipeline, "as_of", "as of", ""),
        (pipeline, "decide", "decide", ""),
        (messages.Composer, "compose", "compose", ""),
        (redis_client.Script, "_run", "redis call", ""),
        (PrometheusMeter, "group", "meter", ""),
        (redis_windows.RedisWindows, "slide", "window prepare", "window finish"),
        (pipeline.Pipeline, "read", "read, rest", "read, rest"),
        (FixedScorer, "score", "score", "score"),
        (FixedScorer, "explain", "score", "score"),
        (redis_alerts.RedisAlertLog, "judge", "cool-down", "cool-down"),
        (outbox.KafkaOutbox, "publish", "publish", "publish"),
        (monitor.Monitor, "process", "queue", "queue"),
    ]
    for owner, name, stage, then in put:
        function = getattr(owner, name)
        made = timed_steps(stage, then, function) if then else timed(stage, function)
        setattr(owner, name, made)

    def tell(*_: object) -> None:
        line = {"stages": dict(_spent), "threads": _threads()}
        with file.open("a") as out:
            out.write(json.dumps(line) + "\n")

    signal.signal(signal.SIGHUP, tell)


def _threads() -> dict[str, float]:
    """CPU s of each thread of this process, by what it is for."""
    spent: defaultdict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        if thread.ident is not None:
            kind = _KINDS.get(thread.name.partition("_")[0], "others")
            spent[kind] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return dict(spent)
