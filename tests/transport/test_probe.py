"""Delivery exactly once is refused before a worker starts where Kafka can not do it."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TransactionalIdAuthorizationFailed

import stream_app.transport.transactions
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.edges.embedded import EmbeddedBroker, free_port
from stream_app.transport.probe import check_transactions
from stream_app.transport.transactions import maker
from tests.end_to_end.rig import ROOT, Rig
from tests.servers import Kafka, KafkaBroker, RedisServer


async def test_a_real_kafka_keeps_two_owners_apart(kafka: Kafka) -> None:
    await check_transactions(uuid.uuid4().hex, maker({"bootstrap_servers": [kafka.address]}))


async def test_the_embedded_broker_does_not() -> None:
    with (
        EmbeddedBroker() as broker,
        pytest.raises(Misconfigured, match="can not deliver exactly once"),
    ):
        await check_transactions("g", maker({"bootstrap_servers": [broker.bootstrap]}))


@pytest.mark.slow
async def test_a_kafka_that_allows_only_shorter_transactions_is_told_so(tmp_path: Path) -> None:
    with (
        KafkaBroker(tmp_path, {"transaction.max.timeout.ms": "5000"}) as broker,
        pytest.raises(Misconfigured, match=r"transaction\.max\.timeout\.ms"),
    ):
        await check_transactions("g", maker({"bootstrap_servers": [broker.address]}))


class Refusing:
    """An aiokafka producer that does not get as far as its id."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.client = SimpleNamespace(close=self._closed_client)
        self._sender = SimpleNamespace(sender_task=None)
        self._message_accumulator = SimpleNamespace(_batches={})
        self._txn_manager = SimpleNamespace(_transaction_waiter=None)

    async def start(self) -> None:
        raise self.error

    async def _closed_client(self) -> None:
        pass


async def test_a_user_who_may_not_is_told_what_is_missing() -> None:
    def make(_identity: str) -> Any:
        return Refusing(TransactionalIdAuthorizationFailed("g:start up:0"))

    with pytest.raises(Misconfigured, match="transactional ids that begin with 'g:'"):
        await check_transactions("g", make)


async def test_without_a_coordinator_it_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_app.transport.transactions, "OPEN_S", 0.2)
    with EmbeddedBroker() as broker:
        make = maker({"bootstrap_servers": [broker.bootstrap]})

        def waiting(identity: str) -> Any:
            producer = make(identity)

            async def find(*_: object) -> None:
                raise TimeoutError

            producer._sender._find_coordinator = find
            return producer

        with pytest.raises(Misconfigured, match=r"transaction\.state\.log\.replication\.factor"):
            await check_transactions("g", waiting)


def test_a_worker_says_so_and_does_not_start(redis_server: RedisServer, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        rig = Rig(Kafka(broker.bootstrap), redis_server, tmp_path)
        broker.create([rig.input, *(rig.topic(output) for output in Output)])
        told = subprocess.run(
            [sys.executable, "-m", "stream_app", "worker"],
            cwd=ROOT,
            env=rig.environment(web__port=free_port(), kafka__delivery="exactly-once"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert told.returncode == 2, told.stderr
    assert "can not deliver exactly once" in told.stderr
    assert "SHOPSENTRY_KAFKA__DELIVERY" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
