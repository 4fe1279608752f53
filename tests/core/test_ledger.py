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
    first, second, third = ledger.deliver(13), ledger.deliver(15), ledger.deliver(19)
    assert ledger.committable() is None
    third.ack()
    assert ledger.committable() is None
    first.ack()
    assert ledger.committable() == 13
    second.ack()
    assert ledger.committable() == 19


def test_a_cut_delivery_is_acked_part_by_part_in_any_order() -> None:
    ledger = Ledger(0)
    ledger.deliver(2).ack()
    rest, after = ledger.deliver(10), ledger.deliver(12)
    first = rest.cut(5)
    second = rest.cut(7)
    rest.ack()
    after.ack()
    assert ledger.committable() == 2
    second.ack()
    first.ack()
    assert ledger.committable() == 12


def test_what_is_committed_is_not_committed_again() -> None:
    ledger = Ledger(10)
    ledger.deliver(13).ack()
    assert ledger.committable() == 13
    assert ledger.committable() == 13  # the commit failed: it stays wanted
    ledger.committed = 13
    assert ledger.committable() is None


def test_offsets_may_have_gaps() -> None:
    ledger = Ledger(10)
    ledger.deliver(500).ack()
    assert ledger.committable() == 500


def test_a_drain_waits_for_what_is_published_and_drops_all_else() -> None:
    ledger = Ledger(0)
    published, waiting = ledger.deliver(5), ledger.deliver(9)
    published.publish()
    ledger.drain()
    assert waiting.stale
    assert not published.stale
    assert not ledger.settled()
    published.ack()
    assert not ledger.settled()  # acked, but not committed
    ledger.committed = 5
    assert ledger.settled()


def test_a_late_ack_of_a_forgotten_delivery_acks_nothing_of_what_came_again() -> None:
    ledger = Ledger(0)
    old = ledger.deliver(5)
    old.publish()
    ledger.forget()
    again = ledger.deliver(5)
    old.ack()
    assert ledger.committable() is None
    assert old.stale
    assert not again.stale


Part = tuple[Delivery, int, range]  # a delivery, the reading it is of, and its offsets


class Worker(RuleBasedStateMachine):
    """One partition over its life: read, cut, published, acked, drained, read again, committed.

    Beside it the naive way: which offsets of this reading were delivered, published and acked.
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
        self.handed: list[Delivery] = []
        self.published: set[int] = set()
        self.acked: set[int] = set()

    def acked_prefix(self) -> int:
        end = self.newest_commit
        for offsets in self.delivered:
            for offset in offsets:
                if offset >= end and offset not in self.acked:
                    return end
                end = max(end, offset + 1)
        return end

    @precondition(lambda self: not self.draining)
    @rule(target=waiting, records=st.integers(1, 4))
    def deliver(self, records: int) -> Part:
        first = self.delivered[-1].stop if self.delivered else self.newest_commit
        self.delivered.append(range(first, first + records))
        self.handed.append(self.ledger.deliver(first + records))
        return self.handed[-1], self.reading, self.delivered[-1]

    @rule(target=waiting, taken=consumes(waiting), data=st.data())
    def cut(self, taken: Part, data: st.DataObject) -> MultipleResults[Part]:
        """As `Partition` does: only what is not stale, and has more than one record."""
        delivery, reading, offsets = taken
        if delivery.stale or len(offsets) == 1:
            return multiple(taken)
        at = data.draw(st.integers(1, len(offsets) - 1))
        head = delivery.cut(offsets[at])
        self.handed.append(head)
        return multiple((head, reading, offsets[:at]), (delivery, reading, offsets[at:]))

    @rule(target=under_way, taken=consumes(waiting))
    def publish(self, taken: Part) -> MultipleResults[Part]:
        delivery, reading, offsets = taken
        assert delivery.stale == (reading != self.reading or self.draining)
        if delivery.stale:
            return multiple()
        delivery.publish()
        self.published.update(offsets)
        return multiple(taken)

    @rule(part=consumes(under_way))
    def ack(self, part: Part) -> None:
        delivery, reading, offsets = part
        assert delivery.stale == (reading != self.reading)
        delivery.ack()
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
        self.handed.clear()
        self.published.clear()
        self.acked.clear()

    @rule()
    def commit(self) -> None:
        wanted = self.ledger.committable()
        if wanted is not None:
            assert wanted > self.newest_commit
            self.ledger.committed = self.newest_commit = wanted

    def teardown(self) -> None:
        """Whatever came before: once all is acked, all is committed, to the end."""
        if self.draining:
            self.read_again()
        self.deliver(1)
        for delivery in reversed(self.handed):
            assert not delivery.stale
            delivery.publish()
            delivery.ack()
        assert self.ledger.committable() == self.delivered[-1].stop
        self.ledger.committed = self.delivered[-1].stop
        assert self.ledger.settled()
        assert self.ledger.committable() is None

    @invariant()
    def what_may_be_committed_is_the_acked_prefix(self) -> None:
        end = self.acked_prefix()
        assert self.ledger.committable() == (end if end > self.newest_commit else None)

    @invariant()
    def settled_is_when_all_that_was_published_is_acked_and_its_prefix_committed(self) -> None:
        done = self.published <= self.acked and self.acked_prefix() == self.newest_commit
        assert self.ledger.settled() == done


Worker.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWorker = Worker.TestCase
