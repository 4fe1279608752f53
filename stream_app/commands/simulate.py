"""`shopsentry simulate`: a shop's events with attacks, and the truth about them, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for events.jsonl and labels.jsonl.")],
    events: Annotated[int, typer.Option(help="Events in all.", min=1)] = 100_000,
    days: Annotated[float, typer.Option(help="Days of event time that they take.", min=0.01)] = 7.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1,
    attacks: Annotated[
        float, typer.Option(help="Share of events that belong to attacks.", min=0.0, max=0.5)
    ] = 0.03,
    family: Annotated[
        list[str] | None, typer.Option(help="Only this kind of attack; may be repeated.")
    ] = None,
    late: Annotated[
        float,
        typer.Option(help="Share of events that arrive late, up to 10 min.", min=0.0, max=1.0),
    ] = 0.0,
) -> None:
    """Write simulated events in arrival order, and a label for each."""
    from models.simulate.attacks import FAMILIES
    from models.simulate.shop import SimulationConfig, write
    from stream_app.core.errors import Misconfigured

    unknown = sorted(set(family or []) - set(FAMILIES))
    if unknown:
        raise Misconfigured(f"no such family: {unknown[0]}; there are {', '.join(FAMILIES)}")
    config = SimulationConfig(
        seed=seed,
        events=events,
        span_ms=round(days * 86_400_000),
        attack_share=attacks,
        families=tuple(family or FAMILIES),
        late_share=late,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(config, out / "events.jsonl", out / "labels.jsonl")
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {events} events to {out / 'events.jsonl'} and their truth to labels.jsonl")
