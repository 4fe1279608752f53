"""Offsets of a partition: random orders of deliveries, acks, drains and seeks against a plain list.

offsets  10 11 12 | 13 14 | 15 16 17 18      three deliveries
acked     x  x  x    .  x    x  x  x  x      commit 13: 13 is open
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from stream_app.core.ledger import Delivery, Ledger


def test_acks_in_any_order_commit_the_acked_prefix() -> None:
    ledger = Ledger(10)
    first, second, third = ledger.deliver(13, 3), ledger.deliver(15, 2), ledger.deliver(19, 4)
    assert ledger.committable() is None
    third.ack(4)
    assert ledger.committable() is None
    first.ack(3)
    assert ledger.committable() == 13
    second.ack(2)
    assert ledger.committable() == 19


def test_a_delivery_is_acked_when_all_its_parts_are() -> None:
    ledger = Ledger(0)
    delivery = ledger.deliver(10, 10)
    delivery.ack(4)
    delivery.ack(5)
    assert ledger.committable() is None
    delivery.ack(1)
    assert ledger.committable() == 10


def test_what_is_committed_is_not_committed_again() -> None:
    ledger = Ledger(10)
    ledger.deliver(13, 3).ack(3)
    assert ledger.committable() == 13
    assert ledger.committable() == 13  # the commit failed: it stays wanted
    ledger.committed = 13
    assert ledger.committable() is None


def test_offsets_may_have_gaps() -> None:
    ledger = Ledger(10)
    ledger.deliver(500, 3).ack(3)
    assert ledger.committable() == 500


def test_a_drain_lets_the_begun_finish_and_begins_nothing_more() -> None:
    ledger = Ledger(0)
    begun, waiting = ledger.deliver(5, 5), ledger.deliver(9, 4)
    assert begun.begin()
    ledger.drain()
    assert not waiting.begin()
    assert begun.begin()  # its second part
    assert not begun.stale
    assert not ledger.settled()
    begun.ack(5)
    assert not ledger.settled()  # acked, but not committed
    ledger.committed = 5
    assert ledger.settled()


def test_a_late_ack_of_a_forgotten_delivery_acks_nothing_of_what_came_again() -> None:
    ledger = Ledger(0)
    old = ledger.deliver(5, 5)
    assert old.begin()
    ledger.forget()
    again = ledger.deliver(5, 5)
    old.ack(5)
    assert ledger.committable() is None
    assert old.stale
    assert not old.begin()
    assert again.begin()


Part = tuple[Delivery, int, range]  # a delivery, the reading it is of, and its offsets or some


class Worker(RuleBasedStateMachine):
    """One partition over its life: read, begun, acked in parts, drained, read again, committed.

    Beside it the naive way: which offsets of this reading were delivered, begun and acked.
    """

    waiting: Bundle[Part] = Bundle("waiting")
    under_way: Bundle[Part] = Bundle("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(0)
        self.newest_commit = 0
        self.reading = 0
        self.draining = False
        self.delivered: list[range] = []
        self.begun: set[int] = set()
        self.acked: set[int] = set()

    def acked_prefix(self) -> int:
        end = self.newest_commit
        for offsets in self.delivered:
            if not self.acked.issuperset(offsets):
                break
            end = offsets.stop
        return end

    @precondition(lambda self: not self.draining)
    @rule(target=waiting, records=st.integers(1, 4))
    def deliver(self, records: int) -> Part:
        first = self.delivered[-1].stop if self.delivered else self.newest_commit
        self.delivered.append(range(first, first + records))
        return self.ledger.deliver(first + records, records), self.reading, self.delivered[-1]

    @rule(target=under_way, taken=consumes(waiting), data=st.data())
    def begin(self, taken: Part, data: st.DataObject) -> MultipleResults[Part]:
        delivery, reading, offsets = taken
        begun = delivery.begin()
        assert begun == (reading == self.reading and not self.draining)
        if not begun:
            return multiple()
        self.begun.update(offsets)
        cut = data.draw(st.integers(1, len(offsets)))
        parts = [(delivery, reading, part) for part in (offsets[:cut], offsets[cut:]) if part]
        return multiple(*parts)

    @rule(part=consumes(under_way))
    def ack(self, part: Part) -> None:
        delivery, reading, offsets = part
        assert delivery.stale == (reading != self.reading)
        delivery.ack(len(offsets))
        if reading == self.reading:
            self.acked.update(offsets)

    @rule()
    def drain(self) -> None:
        self.ledger.drain()
        self.draining = True

    @rule()
    def read_again(self) -> None:
        """A rebalance that gives the partition back, from its commit."""
        self.ledger.forget()
        self.ledger = Ledger(self.newest_commit)
        self.reading += 1
        self.draining = False
        self.delivered.clear()
        self.begun.clear()
        self.acked.clear()

    @rule()
    def commit(self) -> None:
        wanted = self.ledger.committable()
        if wanted is not None:
            assert wanted > self.newest_commit
            self.ledger.committed = self.newest_commit = wanted

    @invariant()
    def what_may_be_committed_is_the_acked_prefix(self) -> None:
        end = self.acked_prefix()
        assert self.ledger.committable() == (end if end > self.newest_commit else None)

    @invariant()
    def settled_is_when_all_that_was_begun_is_acked_and_its_prefix_committed(self) -> None:
        done = self.begun <= self.acked and self.acked_prefix() == self.newest_commit
        assert self.ledger.settled() == done


Worker.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWorker = Worker.TestCase
