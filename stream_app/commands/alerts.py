"""`shopsentry alerts`: the alert topic, for people."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from stream_app.commands import settings_of
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.edges.alert_feed import Alert, follow
from stream_app.edges.ctrl_c import deferred


def alerts(
    context: typer.Context,
    since: Annotated[
        str, typer.Option("--from", help="beginning, now, or a time: 2026-11-23T10:00Z.")
    ] = "now",
    limit: Annotated[int | None, typer.Option(help="End after so many.", min=1)] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As they are in Kafka, one a line.")
    ] = False,
) -> None:
    """Show alerts as they come, until Ctrl-C. Changes nothing."""
    settings = settings_of(context)
    kafka, names = settings.kafka, settings.privacy.pseudonyms()
    if user is not None and settings.privacy.outputs and names is not None:
        user = names.of(user)
    start = since if since in ("beginning", "now") else time_ms(since)
    found = follow(kafka.librdkafka(), kafka.outputs()[Output.ALERTS], start, user)
    with deferred():
        for value, alert in islice(found, limit):
            if as_json or alert is None:
                sys.stdout.buffer.write(value + b"\n")
                sys.stdout.buffer.flush()
            else:
                typer.echo(block(alert))


def time_ms(text: str) -> int:
    """Epoch ms of an ISO 8601 time, UTC if it names no zone. Raises Misconfigured."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Misconfigured(f"{text!r} is no time; write 2026-11-23T10:00Z") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def block(alert: Alert) -> str:
    """An alert in a few lines. What users chose themselves cannot drive the terminal."""
    data = alert.data
    lines = [
        f"{alert.time}  user {data.user_id}  {data.task}  "
        f"score {data.score:.3f} (alerts from {data.threshold:.3f})",
        f"  {data.event_type} {data.event_id}, the last of {data.window.events} events in "
        f"{_span(data.window.span_s)}",
    ]
    lines += [
        f"  {r.share:4.0%} {r.field}{f', {r.events_back} events before' if r.events_back else ''}: "
        f"{r.observed}, expected {r.expected}"
        for r in data.reasons
    ]
    if data.suppressed:
        lines.append(f"  {data.suppressed} more anomalous events since the alert before")
    return "\n".join(_plain(line) for line in lines) + "\n"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
