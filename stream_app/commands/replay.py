"""`shopsentry replay`: old records into the input topic, or beside everything else."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stream_app.commands import done, ensured_input, progress_of, settings_of
from stream_app.commands.alerts import time_ms
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.edges.ctrl_c import deferred
from stream_app.edges.kafka_admin import ensure_topics
from stream_app.edges.replaying import (
    Choice,
    Range,
    Replayed,
    file_records,
    is_empty,
    partition_count,
    ready,
    records,
    redriven,
)
from stream_app.edges.sender import Pacer, Sender
from stream_app.settings import KafkaSettings, Settings


def replay(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="JSON lines to send; or --topic, or --dead-letters.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Topic to read.")] = None,
    partition: Annotated[
        list[int] | None, typer.Option(help="Only this partition; may be repeated.", min=0)
    ] = None,
    from_offset: Annotated[int | None, typer.Option(min=0)] = None,
    to_offset: Annotated[int | None, typer.Option(help="Exclusive.", min=0)] = None,
    from_time: Annotated[
        str | None, typer.Option(help="Kafka time to begin at: 2026-11-23T10:00Z.")
    ] = None,
    to_time: Annotated[str | None, typer.Option(help="Kafka time to end before.")] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Send dead letters back to where they were.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only dead letters of this reason.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Where to; else the first of kafka.input_topics.")
    ] = None,
    isolated: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Copy into NAME.events, and print settings to run a worker on it."
        ),
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option(help="With --isolated: write those settings here.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="1 as fast as it came, 60 an hour a minute.", min=0.001)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's records.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be sent; change nothing.")
    ] = False,
) -> None:
    """Send old records again, with the ids of their events.

    The worker knows an event again as long as it is among its user's newest, so no window has it
    twice; a model's counters, of all records that come, do. With --isolated, everything is scored
    anew without touching what is there.
    """
    settings = settings_of(context)
    kafka = settings.kafka
    if isolated and topic is None and file is None and not dead_letters:
        topic = kafka.input_topics[0]
    if sum((file is not None, topic is not None, dead_letters)) != 1:
        raise Misconfigured("say what to replay: a FILE, --topic or --dead-letters, one of them")
    if dead_letters and (to or isolated):
        raise Misconfigured("dead letters go back to where they came from: no --to, no --isolated")
    if reason and not dead_letters:
        raise Misconfigured("--reason goes with --dead-letters")
    if isolated and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", isolated):
        raise Misconfigured(f"--isolated takes letters, digits, - and _, not {isolated!r}")
    source = kafka.outputs()[Output.DEAD_LETTERS] if dead_letters else topic
    chosen = Range(
        topic=source or "",
        partitions=tuple(partition or ()),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=time_ms(from_time) if from_time else None,
        to_ms=time_ms(to_time) if to_time else None,
    )
    found = file_records(file) if file is not None else records(kafka.librdkafka(), chosen)
    choice = Choice(user=user, type=type_, reason=reason)
    if dead_letters:
        target = "where they came from"
        outgoing = (redriven(record, choice) for record in found)
    else:
        target = f"{isolated}.events" if isolated else to or kafka.input_topics[0]
        width = _prepare(settings, source, target, isolated is not None, dry_run)
        outgoing = (ready(record, target, choice, partitions=width) for record in found)
    told = _run(kafka, outgoing, f"{file or source} -> {target}", speed, dry_run)
    typer.echo(f"{told} to {target}", err=True)
    if isolated and not dry_run:
        _tell_isolated(isolated, settings_file)


def _prepare(
    settings: Settings, source: str | None, target: str, isolated: bool, dry_run: bool
) -> int:
    """Make the target; how far partitions may be kept: 0 if it is cut otherwise than the source."""
    kafka = settings.kafka
    width = partition_count(kafka.librdkafka(), source) if source else None
    if dry_run:
        return 0
    if not isolated:
        return width if ensured_input(settings, target) == width else 0
    counts = done(
        ensure_topics(
            kafka.aiokafka(),
            [target],
            {},
            create=True,
            partitions=width or kafka.partitions,
            replication=kafka.replication,
            max_record_bytes=kafka.max_record_bytes,
            input_config={"retention.ms": "-1"},  # old records keep their old times
        )
    )
    if not is_empty(kafka.librdkafka(), target):
        raise Misconfigured(f"{target} holds records of an earlier replay; choose another name")
    return width if counts[target] == width else 0


def _run(
    kafka: KafkaSettings,
    outgoing: Iterator[Replayed | None],
    what: str,
    speed: float | None,
    dry_run: bool,
) -> str:
    """Send; what became of it, in words."""
    if dry_run:
        with deferred():
            counts = Counter("would be sent" if one else "left out" for one in outgoing)
        sent, left = counts["would be sent"], counts["left out"]
        return f"{sent:,} records would be sent, {left:,} left out,"
    left = 0
    pacer = Pacer(None, speed, time.monotonic())
    with Sender(kafka.librdkafka(), kafka.max_record_bytes) as sender:
        try:
            with deferred(), progress_of(what, sender):
                for one in outgoing:
                    if one is None:
                        left += 1
                        continue
                    wait_s = pacer.wait_s(one.at_ms or None, time.monotonic())
                    if wait_s > 0:
                        sender.wait(wait_s)
                    sender.send(one.sending)
                sender.finish()
        except KeyboardInterrupt:
            sender.settle()
            typer.echo(f"stopped: {sender.delivered:,} records are delivered", err=True)
            raise typer.Exit(130) from None
        return f"{sender.delivered:,} records delivered, {left:,} left out,"


def _tell_isolated(name: str, file: Path | None) -> None:
    lines = (
        f"SHOPSENTRY_KAFKA__GROUP=shopsentry-{name}",
        f"SHOPSENTRY_KAFKA__INPUT_TOPICS={name}.events",
        f"SHOPSENTRY_KAFKA__OUTPUT_PREFIX={name}.",
        f"SHOPSENTRY_REDIS__PREFIX=shopsentry-{name}",
        "SHOPSENTRY_WEB__PORT=0",
    )
    if file is None:
        typer.echo("\n".join(lines))
        typer.echo("run a worker with these in its environment", err=True)
        return
    try:
        file.write_text("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}") from error
    typer.echo(f"run a worker on it: env $(cat {file}) shopsentry worker", err=True)
