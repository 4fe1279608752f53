"""Fetching, in Faust's consumer thread: our aiokafka consumer, its commits and its starting
offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Set
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import GroupLoadInProgressError, IllegalStateError, KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

COMMIT_TIMEOUT_S = 5.0
NO_OFFSET = -1  # so Kafka says that nothing is committed
PAUSE_S = 0.1  # before a coordinator that is not ready is asked again
POLL_RECORDS = 16_384  # of all partitions together, about: memory, and how long others wait
LEAST_RECORDS = 2048  # of a partition, if it has them: a call costs as much for a few


class FetchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with four differences, each noted where it is."""

    _failed: tuple[TP, KafkaError] | None = None  # to be told by the next poll

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._polls = 0
        self._served: dict[TP, int] = {}  # by which poll last
        super().__init__(*args, **kwargs)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        """Range assignment: partition n of all input topics goes to one worker, as do their users.

        Faust would take round robin, which scatters them. `read_committed`: the input may itself be
        written in transactions.
        """
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of what retention has not deleted: skip nothing
            max_poll_records=None,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=100,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            check_crcs=conf.broker_check_crcs,
            isolation_level="read_committed",
            **transport.connection,
        )

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: Set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 Faust's
        max_records: int | None = None,
    ) -> dict[TP, list[Any]]:
        """Some records of each partition, or of those that waited longest, if there are many.

        Faust takes all that were fetched, 16 MB of each partition: of a backlog that is 300 MB of
        records, made while everything else stands still. With a limit of its own aiokafka would
        tell of one partition after the other. Only the last look can wait: for a rebalance.
        """
        wanted = frozenset(active_partitions)  # Faust's own set changes while we wait
        if not wanted:
            return {}
        failed, self._failed = self._failed, None
        if failed is not None and failed[0] in wanted:
            raise failed[1]
        found: dict[TP, list[Any]] = {}
        take = super()._fetch_records
        share = max(LEAST_RECORDS, POLL_RECORDS // len(wanted))
        self._polls += 1
        ready = wanted & consumer._fetcher._records.keys()
        for tp in sorted(ready, key=lambda tp: self._served.get(tp, 0)):
            if sum(map(len, found.values())) >= POLL_RECORDS:
                break
            try:
                some = await take(consumer, {tp}, timeout=0, max_records=share)
            except KafkaError as error:
                if not found:
                    raise
                self._failed = tp, error  # what was found before it must not be lost
                break
            if some:
                found |= some
                self._served[tp] = self._polls
        if found:
            return found
        waited: dict[TP, list[Any]] = await take(
            consumer, wanted, timeout=timeout, max_records=share
        )
        return waited

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """False if it did not succeed: the next commit tries again.

        Faust crashes the app on any error here; a restart of the broker must not do that.
        """
        wanted = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in self.assignment()
        }
        if not wanted:
            return False
        try:
            await asyncio.wait_for(self._ensure_consumer().commit(wanted), COMMIT_TIMEOUT_S)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self.log.warning("commit failed, it will be tried again: %r", error)
            return False
        return True

    async def seek_to_start(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """Seek each partition to its committed offset, else to its beginning.

        Also where a new group starts at the end: those ends are committed before a worker starts
        (`edges.group_start`). Whoever took the end of now would skip what the owner before had not
        committed yet. aiokafka's own `seek_to_committed` does not move a partition without commit.
        """
        starts: dict[TP, int] = await self.call_thread(self._seek_to_start, list(partitions))
        return starts

    async def _seek_to_start(self, partitions: list[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        starts: dict[TP, int] = {}
        for tp in partitions:
            partition = TopicPartition(tp.topic, tp.partition)
            offset = await committed_offset(consumer._coordinator, partition)
            if offset is None:
                offset = (await consumer.beginning_offsets([partition]))[partition]
            consumer.seek(partition, offset)
            starts[tp] = offset
            if self._failed is not None and self._failed[0] == tp:
                self._failed = None  # of records before the seek
        return starts


async def committed_offset(coordinator: Any, place: TopicPartition) -> int | None:
    """What the group has committed of a partition; None if that is nothing.

    aiokafka's own `committed` looks for errors beside each partition alone. A coordinator that is
    just loading answers with one error for all and names no partition: aiokafka takes that for a
    group without offsets, and everything would be read again from the beginning.

    Asks until there is an answer. Raises KafkaError if asking again would not help.
    """
    request = OffsetFetchRequest(coordinator.group_id, [(place.topic, [place.partition])])
    while True:
        await coordinator.ensure_coordinator_known()
        try:
            return _told(await coordinator._send_req(request), place)
        except KafkaError as error:
            if not error.retriable:
                raise
            if not isinstance(error, GroupLoadInProgressError):
                coordinator.coordinator_dead()  # look for it anew
            await asyncio.sleep(PAUSE_S)


def _told(answer: Any, place: TopicPartition) -> int | None:
    """The offset in an answer that has one, or says that there is none. Raises KafkaError."""
    _raise(getattr(answer, "error_code", 0))  # not there before version 2
    for topic, partitions in answer.topics:
        for partition, offset, _metadata, error_code in partitions:
            if (topic, partition) == place:
                _raise(error_code)
                return None if offset == NO_OFFSET else offset
    raise KafkaError(f"Kafka was asked for the committed offset of {place}, and told of others")


def _raise(error_code: int) -> None:
    if error_code:
        raise for_code(error_code)()
