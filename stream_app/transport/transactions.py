"""Outputs and the offset of their input in one transaction of Kafka: all of it, or nothing.

aiokafka sends the offsets without its consumer's membership, so the broker does not look whether
their sender still owns the partition. What keeps two owners apart is the transactional id:

1. It follows from group, input topic and partition alone: whoever opens it last shuts others out.
2. Its opener reads the committed offset after opening (`lane`), when all before it has ended.
3. Nobody commits the group's offsets in another way (`transactional.NoCommitThread`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiokafka
from aiokafka.client import CoordinationType
from aiokafka.producer.sender import AddOffsetsToTxnHandler
from aiokafka.producer.transaction_manager import TransactionState
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from stream_app.core.record import Source
from stream_app.core.together import all_ended

OPEN_S: Final = 15.0
TRANSACTION_S: Final = 15.0  # for its beginning, and again for its end; then it is given up here
BROKER_TIMEOUT_S: Final = 20.0  # from its beginning: then the broker aborts it, and shuts us out
LEAVE_S: Final = 3.0  # a broker that is away is asked, and complained of, 20 times a second
ABORT_S: Final = 2.0
SENDER_S: Final = 0.2  # for what aiokafka's sender has under way when its connections are closed
RETRY_FIRST_S: Final = 0.004  # the broker still writes where the last one ended: it takes so long
RETRY_LAST_S: Final = 0.05

Write = Callable[[Any], Awaitable[Sequence[Awaitable[Any]]]]  # aiokafka producer -> deliveries
Make = Callable[[str], Any]  # transactional id -> aiokafka producer, not started

log = logging.getLogger("shopsentry.transactions")


def transactional_id(group: str, source: Source) -> str:
    """No topic has a colon in its name: no two sources of any two groups get the same."""
    return f"{group}:{source.topic}:{source.partition}"


def maker(connection: Mapping[str, Any], **settings: Any) -> Make:
    """Makes aiokafka producers; `settings` as its constructor takes them."""

    def make(identity: str) -> aiokafka.AIOKafkaProducer:
        return aiokafka.AIOKafkaProducer(
            transactional_id=identity,
            transaction_timeout_ms=round(BROKER_TIMEOUT_S * 1000),
            linger_ms=0,
            retry_backoff_ms=round(RETRY_LAST_S * 1000),
            **settings,
            **connection,
        )

    return make


class Transactions:
    """The transactions of one input partition, one after another.

    After any error: `drop`, `open` again, and read the committed offset. Whether the transaction
    that failed was committed nevertheless, that offset tells.
    """

    def __init__(self, group: str, source: Source, make: Make) -> None:
        self.id = transactional_id(group, source)
        self._group = group
        self._place = TopicPartition(source.topic, source.partition)
        self._make = make
        self._producer: Any = None

    @property
    def epoch(self) -> tuple[int, int] | None:
        """Producer id and epoch while open: each `open` has a newer one."""
        manager = self._producer and self._producer._txn_manager
        return (manager.producer_id, manager.producer_epoch) if manager else None

    async def open(self) -> None:
        """Shut out whoever had this id, and end their transaction.

        Raises KafkaError, TimeoutError.
        """
        assert self._producer is None, "drop it first"
        producer = self._make(self.id)
        try:
            async with asyncio.timeout(OPEN_S):
                await producer.start()
        except BaseException:
            await close_at_once(producer)
            raise
        self._producer = producer

    async def begin(self) -> None:
        """Ahead of the outputs: that the broker is asked whether it is done with the last one, and
        told that there will be offsets, is nothing that readers wait for. Twice is as once.

        Raises KafkaError, TimeoutError.
        """
        producer = self._producer
        assert producer is not None, "open it first"
        manager = producer._txn_manager
        if manager.is_in_transaction():
            return
        async with asyncio.timeout(TRANSACTION_S):
            await producer.begin_transaction()
            await self._announce_offsets(producer._sender)
            if not manager.is_in_transaction():
                await manager.wait_for_transaction_end()  # raises why not

    async def _announce_offsets(self, sender: Any) -> None:
        """aiokafka would do it with the offsets, and wait ten times as long as it takes where the
        broker is not done with the last transaction.
        """
        handler = AddOffsetsToTxnHandler(sender, self._group)
        handler._default_backoff = RETRY_FIRST_S
        transaction = CoordinationType.TRANSACTION, self.id
        while not await handler.do(await sender._find_coordinator(*transaction)):
            handler._default_backoff = min(2 * handler._default_backoff, RETRY_LAST_S)

    async def commit(self, write: Write, next_offset: int) -> None:
        """Outputs that `write` hands to the producer, and `next_offset` as the group's offset.

        Raises KafkaError, TimeoutError.
        """
        await self.begin()
        producer = self._producer
        async with asyncio.timeout(TRANSACTION_S):
            await all_ended(await write(producer))  # aiokafka would commit without what failed
            # Not beside the outputs: brokers since 3.6 then refuse one of the two for a while.
            offsets = {self._place: OffsetAndMetadata(next_offset, "")}
            await producer.send_offsets_to_transaction(offsets, self._group)
            await producer.commit_transaction()

    async def leave(self) -> None:
        """End a transaction that was begun and has nothing in it, before the broker does so, which
        shuts out its owner. Raises KafkaError, TimeoutError.
        """
        if self._producer._txn_manager.is_in_transaction():
            async with asyncio.timeout(LEAVE_S):
                await self._producer.abort_transaction()

    async def abort(self) -> None:
        """End what is open, so that readers need not wait for it; not for long if that fails.

        A commit that is under way cannot be taken back: its end is waited for. After a lost right
        aiokafka forgets which partitions a transaction has, and cannot abort it: the broker does.
        """
        if self._producer is None:
            return
        manager = self._producer._txn_manager
        try:
            async with asyncio.timeout(ABORT_S):
                if manager.state is TransactionState.IN_TRANSACTION:
                    await self._producer.abort_transaction()
                elif manager.state is TransactionState.COMMITTING_TRANSACTION:
                    await asyncio.shield(manager.wait_for_transaction_end())
        except Exception as error:  # whatever it is: the next owner's `open` ends it, or the broker
            log.warning("%s: a transaction was left open: %r", self.id, error)

    async def drop(self) -> None:
        """Close without waiting for the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_at_once(producer)


async def close_at_once(producer: Any) -> None:
    """Close without flushing: aiokafka's own `stop` waits for a broker that is down."""
    producer._closed = True
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ABORT_S):
            await producer.client.close()
    sender = producer._sender.sender_task
    if sender is not None:
        # At first it waits for its requests; one that looks for a coordinator does so for ever,
        # and ends only if the sender is cancelled again.
        for patience_s in (SENDER_S, ABORT_S):
            sender.cancel()
            await asyncio.wait({sender}, timeout=patience_s)
    queued = producer._message_accumulator._batches.values()
    drained = [batch._drain_waiter for batches in queued for batch in batches]
    for ended in (sender, producer._txn_manager._transaction_waiter, *drained):
        if ended is not None and ended.done() and not ended.cancelled():
            ended.exception()  # seen: or asyncio complains of each that nobody looked
