"""`shopsentry simulate`: events of a shop or another domain with attacks, and the truth on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from models.simulate.world import Simulated


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
    domain: Annotated[
        str, typer.Option(help="shop, finance, smart-home, or a TOML file; see models/simulate.")
    ] = "shop",
    late: Annotated[
        float,
        typer.Option(help="Share of events that arrive late, up to 10 min.", min=0.0, max=1.0),
    ] = 0.0,
) -> None:
    """Write simulated events in arrival order, and a label for each."""
    from models.simulate.shop import save

    span_ms = round(days * 86_400_000)
    if domain == "shop":
        made = _shop(events, span_ms, seed, attacks, family or [], late)
    else:
        if family or late:
            raise Misconfigured(f"--family and --late are for the shop, not for {domain}")
        from models.simulate import domain as domains

        described = domains.load(domain)
        made = iter(domains.simulate(described, seed, events, span_ms=span_ms, anomalies=attacks))
    try:
        out.mkdir(parents=True, exist_ok=True)
        save(made, out / "events.jsonl", out / "labels.jsonl")
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {events} events to {out / 'events.jsonl'} and their truth to labels.jsonl")


def _shop(
    events: int, span_ms: int, seed: int, attacks: float, families: list[str], late: float
) -> Iterator[Simulated]:
    from models.simulate.attacks import FAMILIES
    from models.simulate.shop import SimulationConfig, simulate

    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise Misconfigured(f"no such family: {unknown[0]}; there are {', '.join(FAMILIES)}")
    config = SimulationConfig(
        seed=seed,
        events=events,
        span_ms=span_ms,
        attack_share=attacks,
        families=tuple(families or FAMILIES),
        late_share=late,
    )
    return simulate(config)
