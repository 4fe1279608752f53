"""Kafka's topics: which there are, and making those that are missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.structs import TopicPartition

from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output

PATIENCE_S: Final = 10.0  # a broker that starts beside us is up by then
LEAST_BYTES: Final = 1_000_000  # that an output must take; Kafka's default is a little more
HEADERS_BYTES: Final = 64 << 10  # what we add to a record on its way to an output


async def ensure_topics(
    connection: Mapping[str, Any],
    inputs: Sequence[str],
    outputs: Mapping[Output, str],
    *,
    create: bool,
    partitions: int,
    replication: int,
    max_record_bytes: int,
    input_config: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> dict[str, int]:
    """Partitions of each topic by name, once all of them are there.

    `connection` are aiokafka's arguments. Missing inputs get as many partitions as the inputs that
    exist, else `partitions`; missing outputs as many as the inputs. Raises Misconfigured: a topic
    is missing and may not be created, inputs are not co-partitioned, Kafka does not answer.
    """
    async with admin(connection, timeout_s) as client:
        found = await _counts(client)
        counts = {name: found[name] for name in inputs if name in found}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise Misconfigured(
                f"the input topics need equal partition counts, but {told}; "
                "a user's events must meet in one worker"
            )
        width = next(iter(counts.values()), partitions)
        wanted = {name: _input_config(max_record_bytes, input_config) for name in inputs}
        wanted |= {name: _output_config(o, max_record_bytes) for o, name in outputs.items()}
        missing = {name: config for name, config in wanted.items() if name not in found}
        if missing and not create:
            raise Misconfigured(how_to_create(missing, width, replication))
        if missing:
            await _create(client, missing, width, replication)
            found = await _await_leaders(client, list(missing), timeout_s)
        return {name: found[name] for name in wanted}


async def partition_counts(
    connection: Mapping[str, Any], timeout_s: float = PATIENCE_S
) -> dict[str, int]:
    """Partitions of every topic that we may see. Raises Misconfigured if Kafka does not answer."""
    async with admin(connection, timeout_s) as client:
        return await _counts(client)


async def record_limits(
    connection: Mapping[str, Any], topics: Iterable[str], timeout_s: float = PATIENCE_S
) -> dict[str, int]:
    """`max.message.bytes` of each topic, where Kafka tells. Raises Misconfigured without Kafka.

    It does not tell whom it does not allow to ask, and the embedded broker knows no such question.
    """
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": ""}) for name in topics
    ]
    async with admin(connection, timeout_s) as client:
        try:
            answers = await client.describe_configs(asked)
        except IncompatibleBrokerVersion:
            return {}
        return {
            name: int(entries[0][1])
            for answer in answers
            for _code, _text, _kind, name, entries in answer.resources
            if entries
        }


async def largest_record(
    connection: Mapping[str, Any], outputs: Iterable[str], otherwise: int
) -> int:
    """Bytes of a record that fits all `outputs` with the headers that we add.

    `otherwise`: where Kafka does not tell. Raises Misconfigured if a topic takes too little.
    """
    limits = await record_limits(connection, outputs)
    for name, limit in limits.items():
        if limit < LEAST_BYTES:
            raise Misconfigured(
                f"the topic {name} takes messages of {limit} bytes; raise its max.message.bytes "
                f"to {LEAST_BYTES} or more"
            )
    return min(limits.values(), default=otherwise + HEADERS_BYTES) - HEADERS_BYTES


async def check_group(
    connection: Mapping[str, Any], group: str, topic: str, timeout_s: float = PATIENCE_S
) -> None:
    """Raises Misconfigured if we may not read as `group`: a consumer would ask for ever, and say
    nothing. Other trouble is left to whoever reads.
    """
    async with admin(connection, timeout_s) as client:
        try:
            async with asyncio.timeout(timeout_s):
                # One partition tells; the embedded broker has no answer about all of them.
                await client.list_consumer_group_offsets(
                    group, partitions=[TopicPartition(topic, 0)]
                )
        except GroupAuthorizationFailedError:
            raise Misconfigured(
                f"this user may not read as the consumer group {group} (kafka.group): it needs "
                "Read on that group"
            ) from None
        except (TimeoutError, KafkaError):
            return


@asynccontextmanager
async def admin(
    connection: Mapping[str, Any], timeout_s: float = PATIENCE_S
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; tries for `timeout_s` to reach a broker. Raises Misconfigured."""
    where = ", ".join(connection["bootstrap_servers"])
    client = AIOKafkaAdminClient(**connection, request_timeout_ms=round(timeout_s * 1000))
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await _start(client)
        except AuthenticationFailedError as error:
            raise Misconfigured(
                f"Kafka at {where} does not let us in: {error}; check kafka.username, "
                "kafka.password and kafka.sasl_mechanism"
            ) from error
        except (TimeoutError, KafkaError) as error:
            raise Misconfigured(
                f"no Kafka answers at {where} within {timeout_s:g} s; start it, or set "
                "kafka.bootstrap (SHOPSENTRY_KAFKA__BOOTSTRAP) and kafka.security_protocol"
            ) from error
        try:
            yield client
        except (TimeoutError, KafkaError) as error:
            raise Misconfigured(f"Kafka at {where} refused: {error}") from error
    finally:
        await client.close()


async def _start(client: AIOKafkaAdminClient) -> None:
    while True:
        try:
            return await client.start()  # type: ignore[no-any-return]
        except KafkaConnectionError:
            await asyncio.sleep(0.25)  # the caller's deadline ends this


async def _counts(client: AIOKafkaAdminClient) -> dict[str, int]:
    # All topics: asking for one by name would create it where brokers create on demand.
    return {t["topic"]: len(t["partitions"]) for t in await client.describe_topics()}


async def _create(
    client: AIOKafkaAdminClient,
    topics: Mapping[str, Mapping[str, str]],
    partitions: int,
    replication: int,
) -> None:
    new = [
        NewTopic(name, partitions, replication, topic_configs=dict(config))
        for name, config in topics.items()
    ]
    answer = await client.create_topics(new)
    for name, code, *text in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another worker was faster: fine
            raise Misconfigured(
                f"topic {name} could not be created: {text[0] if text and text[0] else error}\n"
                + how_to_create({name: topics[name]}, partitions, replication)
            )


async def _await_leaders(
    client: AIOKafkaAdminClient, names: Sequence[str], timeout_s: float
) -> dict[str, int]:
    """Partition counts once every partition of `names` has a leader."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = {t["topic"]: t["partitions"] for t in await client.describe_topics()}
            if all(found.get(name) and _led(found[name]) for name in names):
                return {name: len(places) for name, places in found.items()}
            await asyncio.sleep(0.1)


def _led(partitions: Sequence[Mapping[str, Any]]) -> bool:
    return all(place["leader"] >= 0 for place in partitions)


def _input_config(max_record_bytes: int, more: Mapping[str, str] | None) -> dict[str, str]:
    return {"max.message.bytes": str(max_record_bytes), **(more or {})}


def _output_config(output: Output, max_record_bytes: int) -> dict[str, str]:
    config = {"max.message.bytes": str(max_record_bytes + HEADERS_BYTES)}
    if output is Output.USER_RISK:
        config["cleanup.policy"] = "compact"
    return config


def how_to_create(
    topics: Mapping[str, Mapping[str, str]], partitions: int, replication: int
) -> str:
    names = ", ".join(topics)
    lines = [
        f"kafka-topics.sh --bootstrap-server ... --create --topic {name} "
        f"--partitions {partitions} --replication-factor {replication}"
        + "".join(f" --config {key}={value}" for key, value in config.items())
        for name, config in topics.items()
    ]
    return (
        f"missing in Kafka: {names}. Set kafka.create_topics = true "
        "(SHOPSENTRY_KAFKA__CREATE_TOPICS=true), or have them made:\n  " + "\n  ".join(lines)
    )
