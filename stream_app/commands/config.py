"""`shopsentry config`: what is in force."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from stream_app.commands import invocation, settings_of
from stream_app.settings import Setting, listing


def config(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    docs: Annotated[
        bool, typer.Option("--docs", help="All settings and their defaults, as Markdown.")
    ] = False,
) -> None:
    """Show the settings in force, and where each comes from. Secrets are masked."""
    if docs:
        typer.echo(markdown(listing()))
        return
    found = listing(settings_of(context), invocation(context).config)
    if as_json:
        rows = {s.name: {"value": s.value, "source": s.source, "env": s.env} for s in found}
        typer.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "from", "meaning", box=None, pad_edge=False)
    for s in found:
        mark = "" if s.source == "default" else "bold"
        table.add_row(s.name, s.value, s.source, s.meaning, style=mark)
    Console(markup=False).print(table)


def markdown(settings: list[Setting]) -> str:
    """A table for the documentation: name, environment, default, meaning."""
    rows = [
        f"| `{s.name}` | `{s.env}` | {f'`{s.default}`' if s.default else ''} | {s.meaning} |"
        for s in settings
    ]
    return "\n".join(
        ["| setting | environment | default | meaning |", "| --- | --- | --- | --- |", *rows]
    )
