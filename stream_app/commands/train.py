"""`shopsentry train`: a model bundle from files of events."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Preset(StrEnum):
    TINY = "tiny"
    SMALL = "small"
    BASE = "base"


class Attention(StrEnum):
    CAUSAL = "causal"
    BIDIRECTIONAL = "bidirectional"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    data: Annotated[
        list[Path],
        typer.Option(help="Events in arrival order, one JSON object a line; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help='Truth, lines of {"event_id", "label"}; repeatable.'),
    ] = None,
    schema: Annotated[str, typer.Option(help="A shipped schema, or a TOML file.")] = "shop",
    name: Annotated[str, typer.Option(help="Begins the version; else the folder's name.")] = "",
    preset: Annotated[Preset, typer.Option(help="Size of the encoder.")] = Preset.TINY,
    attention: Annotated[
        Attention, typer.Option(help="What an event's token may look at.")
    ] = Attention.CAUSAL,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes with labels at most; else 8, or fewer of many events.", min=0),
    ] = None,
    pretrain_epochs: Annotated[int, typer.Option(help="Passes without.", min=0)] = 2,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which training is cut short.", min=1.0)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on a CPU.")] = 0,
    device: Annotated[Device, typer.Option(help="What to train on.")] = Device.AUTO,
    threads: Annotated[
        int, typer.Option(help="CPU threads; more than one only helps on idle cores.", min=0)
    ] = 1,
    prior: Annotated[
        float | None,
        typer.Option(help="Share of anomalies to expect in use, if the files hold another."),
    ] = None,
) -> None:
    """Pre-train on how people behave, fine-tune on labels, calibrate, write a bundle."""
    from models.training import train as run

    report = run(
        data,
        labels or [],
        out,
        name=name,
        schema=schema,
        preset=preset.value,
        attention=attention.value,
        epochs=epochs,
        pretrain_epochs=pretrain_epochs,
        time_limit_s=time_limit,
        seed=seed,
        device=device.value,
        threads=threads,
        prior=prior,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo(f"wrote {report.version} to {out}")
