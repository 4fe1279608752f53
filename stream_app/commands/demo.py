"""`shopsentry demo`: the whole monitor on this machine, with nothing to install."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands import settings_of
from stream_app.core.layout import Format

if TYPE_CHECKING:
    from stream_app.settings import Settings

PASSED_ON = ("scorer", "window", "alerts", "flow")  # Kafka, Redis and web port are the demo's own


def demo(
    context: typer.Context,
    duration: Annotated[float, typer.Option(help="Seconds that the shop is open.", min=1)] = 60.0,
    rate: Annotated[float, typer.Option(help="Events a second.", min=1, max=20_000)] = 200.0,
    seed: Annotated[int, typer.Option(help="Of the simulated shop.", min=0)] = 1,
    source: Annotated[
        Path | None, typer.Option("--input", help="A file of real events instead.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Of that file; else by its name.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live/--no-live", help="A screen; else plain lines, as in a pipe.")
    ] = True,
) -> None:
    """Watch a shop: broker, Redis, worker and people, all here, all gone at the end.

    Exit code 1 if any record is without its one outcome.
    """
    from rich.console import Console

    from stream_app.demo.shop import FiledShop, SimulatedShop
    from stream_app.demo.show import Interrupted, Plan, run

    console = Console(highlight=False)
    settings = settings_of(context)
    shop = FiledShop(source, form, rate) if source is not None else SimulatedShop(seed, rate)
    plan = Plan(
        shop=shop,
        seed=seed,
        duration_s=duration,
        live=live and console.is_terminal and sys.stdin.isatty(),
        environment=_environment(settings),
    )
    try:
        fine = run(plan, console)
    except Interrupted:
        raise KeyboardInterrupt from None
    raise typer.Exit(0 if fine else 1)


def _environment(settings: Settings) -> dict[str, str]:
    """The settings that the demo does not decide itself, as the worker's environment."""
    return {
        f"SHOPSENTRY_{section}__{name}".upper(): (
            ",".join(value) if isinstance(value, tuple) else str(value)
        )
        for section in PASSED_ON
        for name, value in getattr(settings, section).model_dump().items()
        if value is not None  # no text means that; it is what stands if nothing is said
    }
