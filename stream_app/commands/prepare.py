"""`shopsentry prepare`: raw logs to clean events in parts, and a card that says how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format, Order


def prepare(
    data: Annotated[
        list[Path], typer.Option(help="CSV, JSON lines or Parquet; repeatable, in order.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: Parquet files and a data card.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help='Truth, lines of {"event_id", "label"}; else a column label, if any.'),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Else by the file's name.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Which column is which field; repeatable."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD=TYPE", help="What the file calls a type; repeatable."),
    ] = None,
    schema: Annotated[str, typer.Option(help="A shipped schema, or a TOML file.")] = "shop",
    order: Annotated[
        Order, typer.Option(help="auto: as the files lie, unless they lie in no order of time.")
    ] = Order.AUTO,
    valid: Annotated[float, typer.Option(help="Share of events, by time, before test.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of events, by time, at the end.")] = 0.2,
    held_out: Annotated[
        float, typer.Option(help="Share of users that neither train nor validation sees.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Which users are held out.")] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Drop what it hits; repeatable."),
    ] = None,
    flag: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Keep what it hits, flagged; repeatable."),
    ] = None,
    min_events: Annotated[int, typer.Option(help="Of a user, for few-events.", min=1)] = 3,
    burst: Annotated[int, typer.Option(help="In a second, for same-second.", min=2)] = 5,
    regular: Annotated[int, typer.Option(help="Equal pauses, for regular-pace.", min=2)] = 10,
    earliest: Annotated[
        datetime | None, typer.Option(help="UTC; what is before is far-time. Else found.")
    ] = None,
    latest: Annotated[datetime | None, typer.Option(help="UTC; what is after is far-time.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Over an earlier run's folder.")] = False,
) -> None:
    """Clean logs with a report, split them by time and user, tell what they hold."""
    from models.prepare.config import PrepareConfig
    from models.prepare.run import prepare as run

    config = PrepareConfig(
        data=tuple(data),
        out=out,
        labels=tuple(labels or ()),
        form=form,
        columns=_pairs("--columns", columns),
        types=_pairs("--types", types),
        schema=schema,
        order=order,
        valid=valid,
        test=test,
        held_out=held_out,
        seed=seed,
        drop=tuple(drop or ()),
        flag=tuple(flag or ()),
        min_events=min_events,
        burst=burst,
        regular=regular,
        earliest_ms=_epoch_ms(earliest),
        latest_ms=_epoch_ms(latest),
        force=force,
    )
    with _shown() as progress:
        card = run(config, progress)
    told = card.report
    dropped = ", ".join(f"{c.dropped:,} {c.name}" for c in told.checks if c.dropped)
    why = f" ({dropped})" if dropped else ""
    gone = told.read - told.kept
    typer.echo(f"{told.read:,} rows read, {told.kept:,} kept, {gone:,} dropped{why}")
    typer.echo(", ".join(f"{part} {facts.events:,}" for part, facts in card.parts.items()))
    typer.echo(f"wrote {out}; read {out / 'card.md'}")


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise Misconfigured(f"{option} takes NAME=VALUE, not {one!r}")
        pairs[name] = value
    return pairs


def _epoch_ms(at: datetime | None) -> int | None:
    if at is None:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


@contextmanager
def _shown() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr for the step at hand; nothing if nobody watches."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, share: bar.update(task, description=step, completed=share)
