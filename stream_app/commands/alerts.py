"""`shopsentry alerts`: the topics of alerts and campaigns, for people."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Final

import typer

from stream_app.commands import settings_of
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.edges.alert_feed import Alert, Campaign, follow
from stream_app.edges.ctrl_c import deferred

SHOWN: Final = 8  # users of a campaign


def alerts(
    context: typer.Context,
    since: Annotated[
        str, typer.Option("--from", help="beginning, now, or a time: 2026-11-23T10:00Z.")
    ] = "now",
    limit: Annotated[int | None, typer.Option(help="End after so many.", min=1)] = None,
    user: Annotated[str | None, typer.Option(help="Only what is about this user.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As they are in Kafka, one a line.")
    ] = False,
) -> None:
    """Show alerts and campaigns as they come, until Ctrl-C. Changes nothing."""
    settings = settings_of(context)
    kafka, names = settings.kafka, settings.privacy.pseudonyms()
    if user is not None and settings.privacy.outputs and names is not None:
        user = names.of(user)
    start = since if since in ("beginning", "now") else time_ms(since)
    topics = [kafka.outputs()[output] for output in (Output.ALERTS, Output.CAMPAIGNS)]
    with deferred():
        for value, told in islice(follow(kafka.librdkafka(), topics, start, user), limit):
            if as_json or told is None:
                sys.stdout.buffer.write(value + b"\n")
                sys.stdout.buffer.flush()
            elif isinstance(told, Campaign):
                typer.echo(campaign_block(told))
            else:
                typer.echo(block(told))


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


def campaign_block(campaign: Campaign) -> str:
    """News of a campaign in a few lines."""
    data = campaign.data
    seen = data.evidence
    shares = (
        ("at the same other items", seen.same_paths),
        ("with the same rhythm", seen.same_rhythm),
        ("of new accounts", seen.new_accounts),
    )
    alike = ", ".join(f"{share:.0%} {name}" for name, share in shares if share is not None)
    users = ", ".join(f"{m.user_id} ({m.events})" for m in data.members[:SHOWN])
    more = len(data.members) - SHOWN
    lines = [
        f"{campaign.time}  campaign {data.campaign_id} at {data.kind} {data.thing}  "
        f"{data.events} anomalous events in {_span((data.last_ms - data.first_ms) / 1000)}"
        f"{', over' if data.status == 'closed' else ''}",
        f"  {len(data.members)} users: {users}{f', {more} more' if more > 0 else ''}",
        f"  evidence {seen.strength:.2f}: scores of {seen.certainty:.2f}; pairs {alike}",
    ]
    return "\n".join(_plain(line) for line in lines) + "\n"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
