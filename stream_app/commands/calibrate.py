"""`shopsentry calibrate`: other probabilities and thresholds for a bundle, from a later slice."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from models.recalibrate import Recalibrated


class Method(StrEnum):
    KEEP = "keep"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


def calibrate(
    model: Annotated[Path, typer.Option(help="Folder of the bundle; it is not changed.")],
    on: Annotated[
        Path,
        typer.Option(help="A later slice of your events; never those that you will measure on."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Truth of the slice; repeatable.")
    ] = None,
    history: Annotated[
        list[Path] | None, typer.Option(help="Events before the slice, in order; repeatable.")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="How scores become probabilities; keep needs no labels.")
    ] = Method.KEEP,
    threshold: Annotated[
        str,
        typer.Option(help="half, cost:R, budget:SHARE or conformal:SHARE; see the README."),
    ] = "half",
    by_task: Annotated[bool, typer.Option(help="Apply the rule to each task by itself.")] = False,
    segment: Annotated[
        str | None,
        typer.Option(help="Thresholds by a part of the shop, say category=c1,c2,c3."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the result as JSON.")] = False,
) -> None:
    """Fit calibration and thresholds to a later slice of events, and write a new bundle."""
    from models import bundle as bundles
    from models import thresholds
    from models.recalibrate import Wanted, recalibrate

    rule = thresholds.parse(threshold)
    field, names = _parted(segment)
    if out.exists() and out.resolve() == model.resolve():
        raise Misconfigured("--out is the bundle itself: name another folder, to be able to return")
    bundle = bundles.load(model)
    found = recalibrate(
        bundle,
        on,
        labels or [],
        out,
        Wanted(
            method=method.value,
            rule=rule,
            by_task=by_task,
            segment_field=field,
            segments=names,
        ),
        history or [],
        source=model,
        progress=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(found))
    else:
        _tell(found, bundle.schema.task_names, out)


def _parted(segment: str | None) -> tuple[str | None, tuple[str, ...]]:
    if segment is None:
        return None, ()
    field, _, values = segment.partition("=")
    names = tuple(value for value in values.split(",") if value)
    if not field or not names:
        raise Misconfigured(f"--segment {segment!r}: write FIELD=VALUE,VALUE, say category=c1,c2")
    return field, names


def _tell(found: Recalibrated, tasks: tuple[str, ...], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("", *tasks, title="thresholds")
    for part, limits in found.thresholds.items():
        table.add_row(part, *(f"{limit:.4f}" for limit in limits))
    console.print(table)
    console.print(f"{found.events:,} events, {found.anomalies:,} labelled anomalies")
    if found.error and found.brier:
        console.print(
            f"expected calibration error {found.error[0]:.4f} -> {found.error[1]:.4f}, "
            f"Brier score {found.brier[0]:.4f} -> {found.brier[1]:.4f}, on users not fitted to"
        )
    if found.decided:
        console.print(", ".join(f"{name} {value:.3f}" for name, value in found.decided.items()))
    later = (
        "the slice is too short to tell of later days"
        if found.later != found.later
        else f"{found.later:.3%} of its later half by thresholds from its earlier half"
    )
    console.print(f"anomalous: {found.alarmed:.3%} of the slice; {later}")
    console.print(f"wrote {found.version} to {out}")
