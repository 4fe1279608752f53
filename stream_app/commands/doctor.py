"""`shopsentry doctor`: is everything in place, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from msgspec import Struct

from stream_app.commands import done, invocation, settings_of
from stream_app.core.errors import Misconfigured, ShopsentryError
from stream_app.settings import KafkaSettings, RedisSettings, ScorerSettings, Settings, WebSettings

if TYPE_CHECKING:
    from models.schema import Schema

ANSWER_S = 5.0
COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


class Finding(Struct, frozen=True, omit_defaults=True):
    """What one look found."""

    what: str
    status: Literal["ok", "warning", "failure"]
    found: str
    do: str = ""


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
) -> None:
    """Check settings, Kafka, topics, Redis, bundle, device and port. Changes nothing."""
    findings = list(_examine(context))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2))
    else:
        _show(findings)
    if any(f.status == "failure" for f in findings):
        raise typer.Exit(1)


def _examine(context: typer.Context) -> Iterator[Finding]:
    try:
        settings = settings_of(context)
    except Misconfigured as error:
        yield Finding("settings", "failure", str(error), "correct this first; all else needs it")
        return
    yield Finding("settings", "ok", str(invocation(context).config or "environment and defaults"))
    for what, check in checks(settings):
        try:
            yield from check()
        except ShopsentryError as error:
            yield Finding(what, "failure", *_parted(str(error)))


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    yield "Kafka", lambda: _kafka(settings.kafka)
    yield "Redis", lambda: _redis(settings.redis)
    yield "bundle", lambda: _bundle(settings.scorer, settings.kafka)
    yield "device", lambda: _device(settings.scorer)
    yield "web port", lambda: _port(settings.web)


def _parted(text: str) -> tuple[str, str]:
    """An error's text -> what is wrong, what to do."""
    for mark in ("; ", ". "):
        what, found, todo = text.partition(mark)
        if found:
            return what, todo
    return text, ""


def _kafka(kafka: KafkaSettings) -> Iterator[Finding]:
    from stream_app.edges.kafka_admin import how_to_create, partition_counts, record_limits

    known = done(partition_counts(kafka.aiokafka(), ANSWER_S))
    yield Finding("Kafka", "ok", f"{kafka.bootstrap} answers")
    wanted = [*kafka.input_topics, *kafka.outputs().values()]
    counts = {name: known[name] for name in wanted if name in known}
    if missing := [name for name in wanted if name not in known]:
        if kafka.create_topics:
            yield Finding(
                "topics",
                "warning",
                f"missing: {', '.join(missing)}",
                "nothing: the worker creates them",
            )
        else:
            width = next(iter(counts.values()), kafka.partitions)
            told = how_to_create({name: {} for name in missing}, width, kafka.replication)
            yield Finding("topics", "failure", *_parted(told))
    widths = {name: counts[name] for name in kafka.input_topics if name in counts}
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    if len(set(widths.values())) > 1:
        yield Finding(
            "partitions",
            "failure",
            f"input topics differ: {told}",
            "give all input topics the same number, with the same keys",
        )
    elif counts:
        yield Finding("partitions", "ok", told)
    limits = done(record_limits(kafka.aiokafka(), counts, ANSWER_S))
    for name in kafka.outputs().values():
        if limits.get(name, kafka.max_record_bytes) < kafka.max_record_bytes:
            yield Finding(
                "record size",
                "warning",
                f"{name} takes {limits[name]:,} bytes of the {kafka.max_record_bytes:,} allowed",
                f"raise max.message.bytes of {name}, or lower kafka.max_record_bytes",
            )


def _redis(settings: RedisSettings) -> Iterator[Finding]:
    import redis

    from stream_app.edges.redis_client import connect, translated

    try:
        with connect(settings.url.get_secret_value(), timeout_s=ANSWER_S) as client:
            told = client.info()
    except redis.RedisError as error:
        yield Finding(
            "Redis",
            "failure",
            f"{settings.shown_url}: {translated(error) or error}",
            "start it, or set redis.url (SHOPSENTRY_REDIS__URL), user and password included",
        )
        return
    policy, limit = told.get("maxmemory_policy"), told.get("maxmemory", 0)
    yield Finding("Redis", "ok", f"{settings.shown_url}, version {told.get('redis_version')}")
    if policy != "noeviction":
        yield Finding(
            "Redis memory",
            "warning" if not limit else "failure",
            f"maxmemory-policy is {policy}: a full Redis would forget users' windows",
            "redis-cli config set maxmemory-policy noeviction",
        )


def _bundle(scorer: ScorerSettings, kafka: KafkaSettings) -> Iterator[Finding]:
    from models.bundle import load

    bundle = load(scorer.bundle, "cpu", scorer.members, scorer.trusted_keys)
    members = ", ".join(bundle.chosen)
    yield Finding("bundle", "ok", f"{bundle.name} {bundle.version}, members: {members}")
    if bundle.schema.counters:
        yield from _counters(bundle.schema, kafka)


def _counters(schema: Schema, kafka: KafkaSettings) -> Iterator[Finding]:
    from stream_app.edges.kafka_admin import partition_counts
    from stream_app.wiring import split_counters

    try:
        known = done(partition_counts(kafka.aiokafka(), ANSWER_S))
    except Misconfigured:
        return  # the look at Kafka has told it
    partitions = sum(known.get(name, 1) for name in kafka.input_topics)
    if partitions > 1:
        yield Finding("counters", "failure", *_parted(split_counters(schema, partitions)))
    else:
        yield Finding("counters", "ok", "all events come in one partition")


def _device(scorer: ScorerSettings) -> Iterator[Finding]:
    import torch

    there = torch.cuda.is_available()
    if scorer.device == "cuda" and not there:
        yield Finding(
            "device",
            "failure",
            "scorer.device is cuda, and torch sees no CUDA device",
            "install the driver and a torch with CUDA, or set SHOPSENTRY_SCORER__DEVICE=auto",
        )
    elif there and scorer.device != "cpu":
        yield Finding("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    else:
        yield Finding("device", "ok", f"cpu, {scorer.threads or torch.get_num_threads()} threads")


def _port(web: WebSettings) -> Iterator[Finding]:
    from stream_app.edges.preflight import check_port

    check_port(web.host, web.port)
    yield Finding("web port", "ok", f"{web.host}:{web.port} is free")


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "found", "what to do", box=None, pad_edge=False)
    for f in findings:
        table.add_row(f.what, Text(f.status, COLOURS[f.status]), Text(f.found), Text(f.do))
    Console().print(table)
