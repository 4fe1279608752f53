"""`shopsentry train`: a model bundle from files of events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stream_app.commands import training_options as asked


def train(
    context: typer.Context,
    data: asked.Data,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    labels: asked.Labels = None,
    valid: asked.Valid = None,
    valid_labels: asked.ValidLabels = None,
    history: asked.History = None,
    valid_use: asked.ValidUse = asked.ValidUseName.FIT,
    simulate: Annotated[
        float,
        typer.Option(
            help="Weight of attacks simulated in --data, all of them against all that is labelled; "
            "0: simulate none.",
            min=0.0,
        ),
    ] = 1.0,
    replicas: Annotated[
        int | None,
        typer.Option(help="Copies of --data with simulated attacks; else 4, 8 on a GPU.", min=1),
    ] = None,
    crowds: Annotated[
        float,
        typer.Option(
            help="Weight in the loss of events that are labelled as honest crowds: flash_sale, "
            "viral_link, welcome_offer.",
            min=0.01,
        ),
    ] = 5.0,
    schema: asked.SchemaName = "shop",
    name: Annotated[str, typer.Option(help="Begins the version; else schema and preset.")] = "",
    preset: asked.Preset = asked.PresetName.TINY,
    init: asked.Init = None,
    encoder: asked.Encoder = asked.EncoderName.BERT,
    attention: asked.Attention = asked.AttentionName.CAUSAL,
    members: Annotated[
        str,
        typer.Option(
            help="Who scores, the encoder first, such as bert,gru,trees,second or bert,bert-2; "
            "else the encoder alone."
        ),
    ] = "",
    loss: asked.Loss = asked.LossName.CE,
    epochs: asked.Epochs = None,
    pretrain_epochs: Annotated[int, typer.Option(help="Passes without.", min=0)] = 2,
    patience: asked.Patience = 3,
    lines: Annotated[
        int, typer.Option(help="Stretches of events a step, over all processes.", min=1)
    ] = 64,
    accumulate: Annotated[int, typer.Option(help="Steps whose gradients are added up.", min=1)] = 1,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate; else by the encoder's size.", min=0.0)
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Settings that tune wrote; the command line goes before them."),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds after which fitting is cut short.", min=1.0)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on a CPU.")] = 0,
    device: asked.Device = asked.DeviceName.AUTO,
    threads: asked.Threads = 1,
    compile_: asked.Compile = False,
    prior: Annotated[
        float | None,
        typer.Option(help="Share of anomalies to expect in use, if the files hold another."),
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's curves; else logs in --out.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on where the same training was broken off."),
    ] = True,
) -> None:
    """Pre-train on how people behave, fine-tune on attacks, calibrate, write a bundle.

    Attacks are those that --labels and --valid-labels tell of, and simulated ones in --data.
    Several processes: torchrun --nproc-per-node 2 -m stream_app train ...
    """
    import sys

    from models.training import Options, Sources
    from models.training import train as run

    sources = Sources(
        data=data,
        labels=labels or [],
        valid=valid or [],
        valid_labels=valid_labels or [],
        valid_use=valid_use.value,
        history=history or [],
        simulate=simulate,
        replicas=replicas,
        crowds=crowds,
    )
    options = Options(
        name=name,
        schema=schema,
        preset=preset.value,
        encoder=encoder.value,
        attention=attention.value,
        members=tuple(part.strip() for part in members.split(",") if part.strip()),
        init=init,
        loss=loss.value,
        epochs=epochs,
        pretrain_epochs=pretrain_epochs,
        patience=patience,
        lines=lines,
        accumulate=accumulate,
        rate=rate,
        seed=seed,
        prior=prior,
        time_limit_s=time_limit,
        device=device.value,
        threads=threads,
        compile=compile_,
        fresh=not resume,
        log_dir=log_dir or out / "logs",
    )
    if recipe is not None:
        options = options.but(_found(recipe, context))
    report = run(
        sources,
        out,
        options,
        lambda line: typer.echo(line, err=True),
        bar=sys.stderr.isatty(),
    )
    if report.version:
        typer.echo(f"wrote {report.version} to {out}")


def _found(recipe: Path, context: typer.Context) -> dict[str, Any]:
    """What the file says of the training and the command line does not."""
    from models.tune import settings

    found = settings.table(recipe, settings.TRAIN)
    given = {
        name
        for name in found
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }
    return {name: value for name, value in found.items() if name not in given}
