"""Offsets of one partition: delivered, published, acked, committable.

A delivery is known by its object, not by its offsets: after a seek the same records come again, and
a late ack of the first delivery must not ack the second.

    waiting --publish--> published --ack--> acked
       |                     |
       +--drain, forget      +--forget      --> stale: drop it, publish nothing more of it

When partitions are taken away, what is published waits for its ack; all else is dropped, however
far it has come, and the next owner does it again. So giving up a partition waits for no scorer.

Pure.
"""

from __future__ import annotations

from collections import deque


class Delivery:
    """One run of records handed out; published and acked as a whole."""

    __slots__ = ("_open", "acked", "next_offset", "published", "stale")

    def __init__(self, next_offset: int, open_ones: deque[Delivery]) -> None:
        """`open_ones`: the deliveries of its ledger, in order."""
        self.next_offset = next_offset  # the offset after its last record
        self._open = open_ones
        self.published = self.acked = self.stale = False

    def cut(self, offset: int) -> Delivery:
        """Its records before `offset` as a delivery of their own; it keeps those from there on."""
        head = Delivery(offset, self._open)
        self._open.insert(self._open.index(self), head)
        return head

    def publish(self) -> None:
        """Its outputs are about to be handed over: from here on, dropping it would repeat them."""
        self.published = True

    def ack(self) -> None:
        """All its outputs are confirmed."""
        self.acked = True


class Ledger:
    """The deliveries of one partition; what may be committed is the end of the acked prefix."""

    def __init__(self, committed: int) -> None:
        """`committed`: the offset from which the partition is read."""
        self.committed = committed
        self._open: deque[Delivery] = deque()
        self._committable = committed

    def deliver(self, next_offset: int) -> Delivery:
        """A run of records, the last of them before `next_offset`."""
        delivery = Delivery(next_offset, self._open)
        self._open.append(delivery)
        return delivery

    def committable(self) -> int | None:
        """The offset to commit, if it is not committed yet: every record before it is acked."""
        while self._open and self._open[0].acked:
            self._committable = self._open.popleft().next_offset
        return self._committable if self._committable > self.committed else None

    def settled(self) -> bool:
        """No published delivery is without its ack, and all that is acked is committed."""
        return not any(d.published and not d.acked for d in self._open) and not self.committable()

    def drain(self) -> None:
        """Nothing more is published; what is published may still be acked and committed."""
        for delivery in self._open:
            delivery.stale = not delivery.published

    def forget(self) -> None:
        """The partition was taken away, or is read again from its commit."""
        for delivery in self._open:
            delivery.stale = True
        self._open.clear()
