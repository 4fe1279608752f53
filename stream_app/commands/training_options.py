"""What `train` and `tune` are both asked: files to learn from, and how to train."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PresetName(StrEnum):
    TINY = "tiny"
    SMALL = "small"
    BASE = "base"


class EncoderName(StrEnum):
    BERT = "bert"
    GPT = "gpt"
    GRU = "gru"


class AttentionName(StrEnum):
    CAUSAL = "causal"
    BIDIRECTIONAL = "bidirectional"


class LossName(StrEnum):
    CE = "ce"
    MSE = "mse"
    FOCAL = "focal"


class ValidUseName(StrEnum):
    FIT = "fit"
    SELECT = "select"


class DeviceName(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Data = Annotated[
    list[Path],
    typer.Option(help="Events in arrival order, JSON lines or Parquet; repeatable."),
]
Labels = Annotated[
    list[Path] | None,
    typer.Option(help='Truth, lines of {"event_id", "label"}; repeatable.'),
]
Valid = Annotated[
    list[Path] | None,
    typer.Option(help="Later labelled events, each file read after --data; repeatable."),
]
ValidLabels = Annotated[
    list[Path] | None, typer.Option(help="Their truth: one for each --valid, or one for all.")
]
History = Annotated[
    list[Path] | None,
    typer.Option(help="Earlier events of users of --valid, as prepare keeps them; repeatable."),
]
ValidUse = Annotated[
    ValidUseName,
    typer.Option(help="fit: 70 % of their users and campaigns help to fit; select: none does."),
]
SchemaName = Annotated[str, typer.Option(help="A shipped schema, or a TOML file.")]
Preset = Annotated[PresetName, typer.Option(help="Size of the encoder.")]
Init = Annotated[
    Path | None,
    typer.Option(help="Begin from a BERT in Hugging Face format, or a bundle; sets the size."),
]
Encoder = Annotated[EncoderName, typer.Option(help="What reads the events.")]
Attention = Annotated[AttentionName, typer.Option(help="What an event's token may look at.")]
Loss = Annotated[LossName, typer.Option(help="Of the tasks.")]
Epochs = Annotated[
    int | None,
    typer.Option(help="Passes with labels at most; else 8, fewer of many events.", min=0),
]
Patience = Annotated[
    int, typer.Option(help="Passes without a better average precision before it stops.", min=1)
]
Device = Annotated[DeviceName, typer.Option(help="What to train on.")]
Threads = Annotated[
    int, typer.Option(help="CPU threads; more than one only helps on idle cores.", min=0)
]
Compile = Annotated[
    bool, typer.Option("--compile", help="By torch.compile: worth its minute on a GPU.")
]
