"""Sends what the shop has when its time has come."""

from __future__ import annotations

import time
from typing import Final

from stream_app.demo.background import Background
from stream_app.demo.faults import with_faults
from stream_app.demo.shop import Due, Shop
from stream_app.demo.tally import Tally
from stream_app.edges.sender import Sender, Sending

# The embedded broker forgets what is older than about 5 MB a partition. So the feed waits when this
# many records have no outcome yet, as a client of a full broker would.
AHEAD: Final = 6_000
HELD_S: Final = 0.05
HISTORY_S: Final = 30.0  # longest wait until what happened before is through


class Feed(Background):
    """One sender, paced; keys go to partitions as Java's clients send them."""

    name = "feed"

    def __init__(self, bootstrap: str, topic: str, shop: Shop, seed: int, tally: Tally) -> None:
        """`seed`: of the faults that a simulated feed gets."""
        super().__init__()
        self._sender = Sender({"bootstrap.servers": bootstrap}, 1 << 20)
        self._topic, self._shop, self._seed, self._tally = topic, shop, seed, tally
        self._began_s = time.monotonic()
        self.opened_s: float | None = None  # monotonic: since when records come at their time
        self.held = False  # waits because the worker is behind

    @property
    def delivered(self) -> int:
        """Records that the broker confirmed."""
        return self._sender.delivered

    def run(self) -> None:
        with self._sender:
            self._send_history()
            records = self._shop.open(_now_ms())
            if self._shop.has_truth:
                records = with_faults(records, self._seed)
            self.opened_s = time.monotonic()
            held_s = 0.0
            for due in records:
                held_s += self._hold(AHEAD)
                wait_s = self.opened_s + held_s + due.at_s - time.monotonic()
                if wait_s > 0:
                    self._wait(wait_s)
                if self.stopping.is_set():
                    break
                self._send(due)
            self._sender.finish(timeout_s=10)

    def _send_history(self) -> None:
        """At once; return when it has come out again."""
        for due in self._shop.history(_now_ms()):
            self._hold(AHEAD)
            if self.stopping.is_set():
                return
            self._send(due)
        self._hold(0, HISTORY_S)

    def _send(self, due: Due) -> None:
        self._tally.send(due.kind, time.monotonic() - self._began_s, due.key, due.label)
        self._sender.send(Sending(self._topic, due.key, due.value))

    def _wait(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and not self.stopping.is_set():
            self._sender.wait(min(left_s, 0.1))

    def _hold(self, most: int, timeout_s: float = float("inf")) -> float:
        """Wait while more records than that are under way; returns for how long it did."""
        began_s = now_s = time.monotonic()
        while self._tally.open_records > most and now_s - began_s < timeout_s:
            if self.stopping.is_set():
                break
            self.held = self.opened_s is not None
            self._sender.wait(HELD_S)
            now_s = time.monotonic()
        self.held = False
        return now_s - began_s


def _now_ms() -> int:
    return round(time.time() * 1000)
