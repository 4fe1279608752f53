"""Offsets of one partition: delivered, begun, acked, committable.

A delivery is known by its object, not by its offsets: after a seek the same records come again, and
a late ack of the first delivery must not ack the second.

    waiting --begin--> begun --ack--> acked
    waiting --drain--> stale           begun --forget--> stale: drop it, publish nothing more of it

Pure.
"""

from __future__ import annotations

from collections import deque


class Delivery:
    """One run of records handed out."""

    __slots__ = ("_open_records", "begun", "next_offset", "stale")

    def __init__(self, next_offset: int, records: int) -> None:
        self.next_offset = next_offset  # the offset after its last record
        self._open_records = records
        self.begun = self.stale = False

    def begin(self) -> bool:
        """Start work on it. False: its partition was taken away or rewound; drop it."""
        self.begun = not self.stale
        return self.begun

    def ack(self, records: int) -> None:
        """All outputs of so many of its records are confirmed. Parts may be acked in any order."""
        self._open_records -= records

    @property
    def acked(self) -> bool:
        return self._open_records <= 0


class Ledger:
    """The deliveries of one partition; what may be committed is the end of the acked prefix."""

    def __init__(self, committed: int) -> None:
        """`committed`: the offset from which the partition is read."""
        self.committed = committed
        self._open: deque[Delivery] = deque()
        self._committable = committed

    def deliver(self, next_offset: int, records: int) -> Delivery:
        """A run of so many records, the last of them before `next_offset`."""
        delivery = Delivery(next_offset, records)
        self._open.append(delivery)
        return delivery

    def committable(self) -> int | None:
        """The offset to commit, if it is not committed yet: every record before it is acked."""
        while self._open and self._open[0].acked:
            self._committable = self._open.popleft().next_offset
        return self._committable if self._committable > self.committed else None

    def settled(self) -> bool:
        """No begun delivery is without its ack, and all that is acked is committed."""
        return not any(d.begun and not d.acked for d in self._open) and not self.committable()

    def drain(self) -> None:
        """Nothing more is begun; what is begun may still be acked and committed."""
        for delivery in self._open:
            delivery.stale = not delivery.begun

    def forget(self) -> None:
        """The partition was taken away, or is read again from its commit."""
        for delivery in self._open:
            delivery.stale = True
        self._open.clear()
