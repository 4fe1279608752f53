"""Sends what the shop has when its time has come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from stream_app.demo.background import Background
from stream_app.demo.shop import Due
from stream_app.demo.tally import Tally
from stream_app.edges.sender import Sender, Sending

# The embedded broker forgets what is older than about 5 MB a partition. So the feed waits when this
# many records have no outcome yet, as a client of a full broker would.
AHEAD: Final = 6_000
HELD_S: Final = 0.05


class Feed(Background):
    """One sender, paced; keys go to partitions as Java's clients send them."""

    name = "feed"

    def __init__(self, bootstrap: str, topic: str, records: Iterator[Due], tally: Tally) -> None:
        super().__init__()
        self._sender = Sender({"bootstrap.servers": bootstrap}, 1 << 20)
        self._topic, self._records, self._tally = topic, records, tally
        self.held = False  # waits because the worker is behind
        self.at_end = False

    @property
    def delivered(self) -> int:
        """Records that the broker confirmed."""
        return self._sender.delivered

    def run(self) -> None:
        with self._sender:
            began_s = time.monotonic()
            held_s = 0.0
            for due in self._records:
                held_s += self._hold()
                wait_s = began_s + held_s + due.at_s - time.monotonic()
                if wait_s > 0 and not self._wait(wait_s):
                    break
                if self.stopping.is_set():
                    break
                self._tally.send(due.kind, time.monotonic() - began_s, due.key, due.label)
                self._sender.send(Sending(self._topic, due.key, due.value))
            else:
                self.at_end = True
            self._sender.finish(timeout_s=10)

    def _wait(self, seconds: float) -> bool:
        """False if it is time to end."""
        until_s = time.monotonic() + seconds
        while not self.stopping.is_set():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return True
            self._sender.wait(min(left_s, 0.1))
        return False

    def _hold(self) -> float:
        """Wait while too much is under way; returns for how long it did."""
        began_s = time.monotonic()
        while self._tally.open_records > AHEAD and not self.stopping.is_set():
            self.held = True
            self._sender.wait(HELD_S)
        self.held = False
        return time.monotonic() - began_s
