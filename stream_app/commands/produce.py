"""`shopsentry produce`: a file's events into the input topic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import msgspec
import typer

from stream_app.commands import ensured_input, progress_of, settings_of
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format, Order, format_of, lies_sorted
from stream_app.edges.ctrl_c import check, deferred
from stream_app.edges.feeds import Fed, Reject, by_time, read
from stream_app.edges.sender import Pacer, Sender, Sending


class Timestamps(StrEnum):
    NOW = "now"
    EVENT = "event"


def produce(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What to send.")],
    topic: Annotated[
        str | None, typer.Option(help="Where to; else the first of kafka.input_topics.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Else by the file's name.")
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Which column is which field, user_id=customer say; may be repeated. "
            "Further ones as attributes.NAME=COLUMN.",
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second at most.", min=0.001)] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Pace by event time: 1 as it happened, 60 an hour a minute.", min=0.001),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Events to send at most.", min=0)] = None,
    order: Annotated[
        Order, typer.Option(help="auto: by time for files that are not (taobao).")
    ] = Order.AUTO,
    timestamps: Annotated[
        Timestamps, typer.Option(help="What Kafka takes as the record's time.")
    ] = Timestamps.NOW,
    rejects: Annotated[
        Path | None, typer.Option(help="Rows that are no events go here, a JSON object each.")
    ] = None,
) -> None:
    """Send a file's events, keyed by user. Rows that are no events are counted and left out."""
    settings = settings_of(context)
    form = form or format_of(file)
    topic = topic or settings.kafka.input_topics[0]
    rows = read(file, form, _pairs(mapping or []))
    first = next(rows, None)  # a file that cannot be read is told before Kafka is asked for
    if rejects and rejects.exists() and rejects.samefile(file):
        raise Misconfigured(f"--rejects {rejects} is the file to be sent; name another")
    ensured_input(settings, topic)
    skipped = _Skipped()
    with ExitStack() as stack:
        out = stack.enter_context(_opened(rejects)) if rejects else None
        sender = stack.enter_context(
            Sender(settings.kafka.librdkafka(), settings.kafka.max_record_bytes)
        )
        events = skipped.without(first, rows, out)
        if order is Order.TIME or (order is Order.AUTO and not lies_sorted(form)):
            events = by_time(events)
        began_s = time.monotonic()
        try:
            with deferred(), progress_of(f"{file.name} -> {topic}", sender):
                _send(sender, islice(events, limit), topic, timestamps, rate, speed)
                sender.finish()
        except KeyboardInterrupt:
            sender.settle()
            _tell(f"stopped: {sender.delivered:,} events are delivered to {topic}", skipped)
            raise typer.Exit(130) from None
    took_s = time.monotonic() - began_s
    per_s = sender.delivered / took_s if took_s else 0
    _tell(
        f"{sender.delivered:,} events delivered to {topic} in {took_s:.1f} s ({per_s:,.0f}/s)",
        skipped,
    )


def _send(
    sender: Sender,
    events: Iterator[Fed],
    topic: str,
    timestamps: Timestamps,
    rate: float | None,
    speed: float | None,
) -> None:
    pacer = Pacer(rate, speed, time.monotonic()) if rate or speed else None
    event_times = timestamps is Timestamps.EVENT
    for event in events:
        if pacer is not None:
            wait_s = pacer.wait_s(event.at_ms, time.monotonic())
            if wait_s > 0:
                sender.wait(wait_s)
        at_ms = max(event.at_ms or 0, 0) if event_times else 0
        sender.send(Sending(topic, event.key, event.value, timestamp=at_ms))


class _Skipped:
    """Counts the rejects, and keeps the first as an example."""

    def __init__(self) -> None:
        self.count = 0
        self.example: Reject | None = None

    def without(
        self, first: Fed | Reject | None, rows: Iterator[Fed | Reject], out: IO[bytes] | None
    ) -> Iterator[Fed]:
        row = first
        while row is not None:
            check()
            if isinstance(row, Fed):
                yield row
            else:
                self.count += 1
                self.example = self.example or row
                if out is not None:
                    out.write(msgspec.json.encode(row._asdict()) + b"\n")
            row = next(rows, None)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        field, equals, column = one.partition("=")
        if not (field and equals and column):
            raise Misconfigured(f"--map takes FIELD=COLUMN, not {one!r}")
        pairs[field] = column
    return pairs


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error


def _tell(line: str, skipped: _Skipped) -> None:
    typer.echo(line, err=True)
    if skipped.example is not None:
        row, reason, _ = skipped.example
        told = f"{skipped.count:,} rows skipped; the first is row {row}: {reason}"
        typer.echo(f"{told} (--rejects FILE keeps them)", err=True)
