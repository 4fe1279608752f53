"""The story of a demo, from the first process to the last: start, watch, stop, add up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

from msgspec import Struct
from rich.console import Console

from stream_app.core.errors import ShopsentryError
from stream_app.core.outcome import Output
from stream_app.demo.feed import Feed
from stream_app.demo.shop import Shop
from stream_app.demo.summary import complaints, summary
from stream_app.demo.tally import Account, Tally
from stream_app.demo.view import Lines, Moment, Screen, View
from stream_app.demo.watch import Watch, records_in
from stream_app.demo.worker import COMMAND, Report, Worker
from stream_app.edges.embedded import PARTITIONS, EmbeddedBroker, EmbeddedRedis

TOPIC: Final = "shop.events"
PREFIX: Final = "shop."
FRAME_S: Final = 0.25
START_S: Final = 90.0  # longest wait for a worker
DRAIN_S: Final = 30.0  # longest wait for the last outcomes
QUIET_S: Final = 2.0  # nothing more came for so long: nothing more will


class Plan(Struct, frozen=True, kw_only=True):
    """What the person asked for."""

    shop: Shop
    seed: int
    duration_s: float
    live: bool
    environment: Mapping[str, str]  # further settings for the worker
    worker: Sequence[str] = COMMAND


class Interrupted(Exception):
    """A signal came before the shop was open."""


def run(plan: Plan, console: Console) -> bool:
    """Whether every record has its outcome. Raises ShopsentryError, and Interrupted."""
    with _signals() as stop, ExitStack() as stack:
        return _Show(plan, console, stop, stack).run()


class _Show:
    def __init__(
        self, plan: Plan, console: Console, stop: threading.Event, stack: ExitStack
    ) -> None:
        self._plan, self._console, self._stop, self._stack = plan, console, stop, stack
        self._tally = Tally(tracked=plan.shop.has_truth)
        self._began_s = time.monotonic()

    def run(self) -> bool:
        plan, tally = self._plan, self._tally
        broker = self._stack.enter_context(EmbeddedBroker())
        outputs = {output: f"{PREFIX}{output}" for output in Output}
        broker.create([TOPIC, *outputs.values()])
        self._tell("broker", f"embedded, at {broker.bootstrap}")
        redis = self._stack.enter_context(EmbeddedRedis())
        redis.wait()
        self._tell("Redis", f"embedded, at {redis.url.removeprefix('redis://')}")
        worker = self._start_worker(broker, redis)
        self._tell("shop", plan.shop.prepare())
        report = self._await(worker)
        health = report.health
        self._tell("worker", f"{health.model} on {health.device}, {health.partitions} partitions")

        watch = Watch(broker.bootstrap, outputs, tally)
        watch.start()
        self._stack.callback(watch.stop)
        feed = Feed(broker.bootstrap, TOPIC, plan.shop, plan.seed, tally)
        self._screen_s = time.monotonic()
        feed.start()
        self._stack.callback(feed.stop)
        with self._view() as view:
            self._watch(view, worker, feed, watch)
            took_s = time.monotonic() - (feed.opened_s or time.monotonic())
            account = self._drain(view, broker, worker, feed, watch)
        self._end(worker)
        tracked = plan.shop.has_truth
        told = summary(
            account,
            tally,
            took_s,
            tracked=tracked,
            start_s=self._screen_s - self._began_s,
            skipped=plan.shop.skipped,
        )
        self._console.print(told)
        return not complaints(account, tally, tracked=tracked)

    def _start_worker(self, broker: EmbeddedBroker, redis: EmbeddedRedis) -> Worker:
        worker = Worker(
            {
                **self._plan.environment,
                "SHOPSENTRY_KAFKA__BOOTSTRAP": broker.bootstrap,
                "SHOPSENTRY_KAFKA__INPUT_TOPICS": TOPIC,
                "SHOPSENTRY_KAFKA__OUTPUT_PREFIX": PREFIX,
                "SHOPSENTRY_REDIS__URL": redis.url,
            },
            self._plan.worker,
        )
        self._stack.callback(worker.process.close)
        self._stack.callback(worker.stop)
        return worker

    def _await(self, worker: Worker) -> Report:
        """Until the worker has all partitions."""
        status = self._console.status("worker: loading the model, joining its group")
        with status if self._console.is_terminal else ExitStack():
            while time.monotonic() - self._began_s < START_S:
                if self._stop.wait(0.1):
                    raise Interrupted
                worker.check()
                report = worker.look()
                if report and report.health.partitions == PARTITIONS:
                    worker.start()
                    return report
        said = worker.process.last_lines()
        raise ShopsentryError(f"the worker is not ready after {START_S:g} s. It said:\n{said}")

    def _watch(self, view: View, worker: Worker, feed: Feed, watch: Watch) -> None:
        """Until the time is over, the file is at its end, or a signal."""
        while feed.running and not self._stop.wait(FRAME_S):
            phase = "" if feed.opened_s else "the minute before"
            self._look(view, worker, feed, watch, phase)
            if feed.opened_s is None:
                continue
            if watch.counts_from_ms is None:
                watch.counts_from_ms = time.time() * 1000
            if time.monotonic() - feed.opened_s > self._plan.duration_s:
                break

    def _drain(
        self, view: View, broker: EmbeddedBroker, worker: Worker, feed: Feed, watch: Watch
    ) -> Account:
        """Stop the feed; wait until every record has its outcome, or nothing moves any more."""
        feed.stop()
        feed.check()
        count = records_in(broker.bootstrap, TOPIC)
        began_s = moved_s = time.monotonic()
        before = -1
        while True:
            worker.look()
            report = self._look(view, worker, feed, watch, "the last outcomes")
            account, now_s = self._tally.account(count), time.monotonic()
            lag = report.health.lag_records if report else -1
            if account.ended != before:
                before, moved_s = account.ended, now_s
            over = now_s - began_s > DRAIN_S
            quiet = lag == 0 and now_s - moved_s > QUIET_S
            if over or quiet or (account.adds_up and lag == 0):
                return account
            time.sleep(0.1)

    def _look(
        self, view: View, worker: Worker, feed: Feed, watch: Watch, phase: str
    ) -> Report | None:
        """One frame. Raises what a thread or the worker ended with."""
        for part in (worker, feed, watch):
            part.check()
        report = worker.report
        if report is None:
            return None
        health, now_s = report.health, time.monotonic()
        self._tally.duplicates = report.duplicates
        trouble = health.why if health.status == "degraded" else ""
        if feed.held and not trouble:
            trouble = "the worker is behind; the feed waits for it"
        view.show(
            Moment(
                at_s=now_s - self._screen_s,
                open_s=now_s - feed.opened_s if feed.opened_s else 0.0,
                duration_s=self._plan.duration_s,
                lag=health.lag_records,
                trouble=trouble,
                model=health.model,
                device=health.device,
                phase=phase,
                has_truth=self._plan.shop.has_truth,
            )
        )
        return report

    def _end(self, worker: Worker) -> None:
        code = worker.end()
        if code != 0:
            said = worker.process.last_lines()
            raise ShopsentryError(f"the worker stopped with exit code {code}. It said:\n{said}")

    def _view(self) -> View:
        made = Screen if self._plan.live else Lines
        return made(self._console, self._tally)

    def _tell(self, what: str, line: str) -> None:
        after_s = time.monotonic() - self._began_s
        text = f"[dim]{after_s:5.1f} s[/]  [bold]{what:8}[/]{line}"
        self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set once a signal asks us to end; the second Ctrl-C does not wait any more."""
    stop = threading.Event()

    def asked(number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, asked) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
