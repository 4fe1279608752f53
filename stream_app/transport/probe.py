"""Whether a Kafka can deliver exactly once, asked before a worker starts."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import (
    InvalidTransactionTimeout,
    KafkaError,
    TransactionalIdAuthorizationFailed,
)

from stream_app.core.errors import Misconfigured
from stream_app.core.record import Source
from stream_app.transport.transactions import BROKER_TIMEOUT_S, Make, Transactions

NOBODY: Final = Source("start up", 0)  # no topic has a space in its name
OTHERWISE: Final = (
    'Or set kafka.delivery = "at-least-once" (SHOPSENTRY_KAFKA__DELIVERY): after a crash outputs '
    "may then come twice, with the same ids."
)


async def check_transactions(group: str, make: Make) -> None:
    """Who opens a transactional id shuts out who had it before. Raises Misconfigured."""
    # Epochs of an id run out after some ten thousand; then one pair has nothing in common.
    if not (await _shuts_out(group, make) or await _shuts_out(group, make)):
        raise Misconfigured(
            "this Kafka can not deliver exactly once: it takes transactions, but does not keep two "
            "workers apart (the embedded broker does not). Use an Apache Kafka. " + OTHERWISE
        )


async def _shuts_out(group: str, make: Make) -> bool:
    first, second = Transactions(group, NOBODY, make), Transactions(group, NOBODY, make)
    try:
        await first.open()
        await second.open()
        before, after = first.epoch, second.epoch
    except TransactionalIdAuthorizationFailed:
        raise Misconfigured(
            "this user may not write in transactions: it needs Write and Describe on the "
            f"transactional ids that begin with '{group}:'. {OTHERWISE}"
        ) from None
    except InvalidTransactionTimeout:
        raise Misconfigured(
            f"this Kafka does not allow transactions of {BROKER_TIMEOUT_S:.0f} s; raise its "
            f"transaction.max.timeout.ms. {OTHERWISE}"
        ) from None
    except TimeoutError:
        raise Misconfigured(
            "no broker coordinates transactions: are there as many brokers as "
            f"transaction.state.log.replication.factor says? {OTHERWISE}"
        ) from None
    except KafkaError as error:
        raise Misconfigured(f"this Kafka refuses transactions: {error!r}. {OTHERWISE}") from error
    finally:
        await first.drop()
        await second.drop()
    assert before is not None
    assert after is not None
    return before[0] == after[0] and before[1] < after[1]
