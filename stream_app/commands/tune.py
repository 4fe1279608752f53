"""`shopsentry tune`: the settings that do best on validation."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands import training_options as asked

if TYPE_CHECKING:
    from models.tune.run import TuneReport


def tune(
    data: asked.Data,
    study: Annotated[
        Path, typer.Option(help="File that keeps the trials; the same command goes on with it.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="TOML file for the best settings; else beside --study, as .toml."),
    ] = None,
    of: Annotated[
        str,
        typer.Option(
            help="train: the encoder's training; or a baseline, such as boosted or stack."
        ),
    ] = "train",
    trials: Annotated[
        int, typer.Option(help="In all, those of earlier runs included.", min=1)
    ] = 20,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which no trial begins.", min=0.0)
    ] = None,
    labels: asked.Labels = None,
    valid: asked.Valid = None,
    valid_labels: asked.ValidLabels = None,
    history: asked.History = None,
    valid_use: asked.ValidUse = asked.ValidUseName.FIT,
    simulate: Annotated[
        float, typer.Option(help="Weight of attacks simulated in --data, as in train.", min=0.0)
    ] = 1.0,
    replicas: Annotated[
        int | None, typer.Option(help="Copies of --data with simulated attacks.", min=1)
    ] = None,
    schema: asked.SchemaName = "shop",
    preset: asked.Preset = asked.PresetName.TINY,
    init: asked.Init = None,
    encoder: asked.Encoder = asked.EncoderName.BERT,
    attention: asked.Attention = asked.AttentionName.CAUSAL,
    loss: asked.Loss = asked.LossName.CE,
    epochs: asked.Epochs = None,
    patience: asked.Patience = 3,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same trials on a CPU.", min=0)
    ] = 0,
    device: asked.Device = asked.DeviceName.AUTO,
    threads: asked.Threads = 1,
    compile_: asked.Compile = False,
) -> None:
    """Try settings of a training, or of a baseline, and keep the best.

    It is for `train --recipe`, a baseline's for `evaluate --settings`.

    Trials are compared by average precision on the users and campaigns that choose the epoch: those
    of --valid, or some of --data. The first trial has the usual settings.
    """
    from models.training import Options, Sources
    from models.tune.run import Wanted
    from models.tune.run import tune as run

    sources = Sources(
        data=data,
        labels=labels or [],
        valid=valid or [],
        valid_labels=valid_labels or [],
        valid_use=valid_use.value,
        history=history or [],
        simulate=simulate,
        replicas=replicas,
    )
    options = Options(
        schema=schema,
        preset=preset.value,
        encoder=encoder.value,
        attention=attention.value,
        init=init,
        loss=loss.value,
        epochs=epochs,
        patience=patience,
        seed=seed,
        device=device.value,
        threads=threads,
        compile=compile_,
    )
    wanted = Wanted(
        study=study,
        out=out or study.with_suffix(".toml"),
        of=of,
        trials=trials,
        time_limit_s=math.inf if time_limit is None else time_limit,
    )
    report = run(
        sources,
        options,
        wanted,
        lambda line: typer.echo(line, err=True),
        bar=sys.stderr.isatty(),
    )
    _tell(report)
    typer.echo(f"wrote the settings of trial {report.best.number} to {wanted.out}")


def _tell(report: TuneReport) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("trial", title=f"{report.of}: average precision")
    for name in ("chosen by", "kept aside", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("settings")
    for one in report.trials:
        row = [
            f"{one.number}",
            "cut short" if one.pruned else f"{one.chosen_by:.4f}",
            "" if math.isnan(one.kept_aside) else f"{one.kept_aside:.4f}",
            f"{one.seconds:.0f}",
            ", ".join(f"{name} {value:.4g}" for name, value in one.settings.items()),
        ]
        table.add_row(*row, style="bold" if one.number == report.best.number else None)
    Console().print(table)
