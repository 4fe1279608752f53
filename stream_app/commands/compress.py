"""`shopsentry compress`: a smaller bundle, and what that costs and saves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class How(StrEnum):
    INT8 = "int8"
    PRUNE = "prune"
    DISTIL = "distil"


class Method(StrEnum):
    KEEP = "keep"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


def compress(
    model: Annotated[Path, typer.Option(help="Folder of the bundle; it is not changed.")],
    on: Annotated[
        Path, typer.Option(help="Your events: to learn from, to calibrate and to compare on.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    how: Annotated[
        How,
        typer.Option(
            help="int8: weights as whole numbers; prune: fewer heads and neurons; distil: a "
            "smaller network that learns from this one."
        ),
    ] = How.INT8,
    labels: Annotated[
        list[Path] | None, typer.Option(help="Truth of the events; repeatable.")
    ] = None,
    history: Annotated[
        list[Path] | None, typer.Option(help="Events before them, in order; repeatable.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="Calibrate anew, as in calibrate; keep needs no labels.")
    ] = Method.KEEP,
    keep: Annotated[
        float, typer.Option(help="prune: the share of heads and neurons that stays.")
    ] = 0.5,
    size: Annotated[
        str | None,
        typer.Option(
            help="distil: tiny, small, or hidden x layers x heads such as 64x2x2; else the next "
            "smaller one."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="prune, distil: passes of learning from the bundle.", min=0),
    ] = None,
    seed: Annotated[int, typer.Option(help="Who is learnt from and who is compared on.")] = 0,
    threads: Annotated[int, typer.Option(help="Of the CPU, to measure with.", min=1)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the result as JSON.")] = False,
) -> None:
    """Write a smaller bundle that works as the other, and a table of what changed.

    The table is in its folder too, as compression.json and compression.md.
    """
    from models.compress.run import Wanted
    from models.compress.run import compress as run
    from models.compress.smaller import Way, parse_size

    way = Way(
        how=how.value,
        keep=keep,
        size=parse_size(size) if size else None,
        epochs=epochs,
        seed=seed,
    )
    wanted = Wanted(way=way, method=method.value, threads=threads)
    told = run(
        model,
        on,
        labels or [],
        out,
        wanted,
        history or [],
        progress=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(told))
        return
    from rich.console import Console
    from rich.table import Table

    from models.compress.table import HEADER, notes, rows

    console = Console(highlight=False)
    table = Table(HEADER[0])
    for name in HEADER[1:]:
        table.add_column(name, justify="right")
    for row in rows(told):
        table.add_row(*row)
    console.print(table)
    for note in notes(told):
        console.print(note)
    console.print(f"wrote {told.version} to {out}")
