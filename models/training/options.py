"""What a person may ask of a training, and the values that stand if they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct, structs

from models.encoders import KINDS, PRESETS, Attention, Kind, NetworkConfig
from models.training.members import kind
from models.training.recipe import Loss, Recipe, epochs_for, rate_for
from stream_app.core.errors import Misconfigured

FITTED: Final = (  # what may be fitted to the data at hand
    "epochs", "pretrain_epochs", "patience", "lines", "accumulate", "rate", "weight_decay",
    "dropout", "positive_share", "number_dropout", "loss",
)  # fmt: skip


class Options(Struct, frozen=True, kw_only=True):
    """All but the files. None: by the amount of data, or the size of the network."""

    name: str = ""  # begins the version; else the schema's and the preset's
    schema: str | Path = "shop"  # a shipped one's name, or a file
    preset: str = "tiny"
    encoder: Kind = "bert"
    attention: Attention = "causal"
    members: tuple[str, ...] = ()  # the encoder alone, if none is named
    init: Path | None = None  # a BERT checkpoint, or a bundle, to begin from
    loss: Loss = "ce"
    epochs: int | None = None
    pretrain_epochs: int = 2
    patience: int = 3
    lines: int = 64  # stretches of events a step
    accumulate: int = 1  # steps whose gradients are added up
    rate: float | None = None
    weight_decay: float = 0.02
    dropout: float | None = None  # within the network
    positive_share: float = 0.25  # of the tasks' loss that anomalies make up
    number_dropout: float = 0.05  # share of numbers that a step does without
    seed: int = 0
    prior: float | None = None  # share of anomalies to expect in use
    time_limit_s: float | None = None
    device: str = "auto"
    threads: int = 1  # 0: as PyTorch likes
    fresh: bool = False  # forget a training that was broken off
    log_dir: Path | None = None  # for curves
    save_every_s: float = 60.0  # between checkpoints
    compile: bool = False  # by torch.compile: worth its minute on a GPU

    def check(self) -> None:
        """Raises Misconfigured. What needs the data to be told is told later."""
        if self.preset not in PRESETS:
            raise Misconfigured(f"there is no preset {self.preset!r}: choose {', '.join(PRESETS)}")
        if self.prior is not None and not 0 < self.prior < 1:
            raise Misconfigured(f"prior is a share between 0 and 1, not {self.prior:g}")
        self.config(64).check()
        self.recipe(0, 1, warm=False).check()
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise Misconfigured(f"dropout is a share below 1, not {self.dropout:g}")

    @property
    def leader(self) -> Kind:
        """The encoder that leads: the first member, if members are named."""
        first = kind(self.members[0]) if self.members else self.encoder
        return next((known for known in KINDS if known == first), self.encoder)

    def config(self, window: int, known: NetworkConfig | None = None) -> NetworkConfig:
        """Of the leading encoder; `known`: of the weights it begins from."""
        found = known or NetworkConfig(
            size=PRESETS[self.preset],
            encoder=self.leader,
            attention=self.attention,
            window=window,
        )
        return found if self.dropout is None else structs.replace(found, dropout=self.dropout)

    def but(self, settings: Mapping[str, Any]) -> Options:
        """With some of `FITTED` set. Raises Misconfigured."""
        types, found = get_type_hints(Options), {}
        for name, value in settings.items():
            if name not in FITTED:
                raise Misconfigured(
                    f"{name!r} is no setting of a training: there are {', '.join(FITTED)}"
                )
            try:
                found[name] = msgspec.convert(value, types[name])
            except msgspec.ValidationError as error:
                raise Misconfigured(f"the setting {name} = {value!r}: {error}") from error
        return structs.replace(self, **found)

    def recipe(self, events: int, hidden: int, *, warm: bool) -> Recipe:
        """For so many events to fit to."""
        return Recipe(
            epochs=epochs_for(events, 8) if self.epochs is None else self.epochs,
            pretrain_epochs=self.pretrain_epochs,
            patience=self.patience,
            lines=self.lines,
            accumulate=self.accumulate,
            rate=rate_for(hidden, warm) if self.rate is None else self.rate,
            weight_decay=self.weight_decay,
            positive_share=self.positive_share,
            number_dropout=self.number_dropout,
            loss=self.loss,
            time_limit_s=math.inf if self.time_limit_s is None else self.time_limit_s,
            seed=self.seed,
            save_every_s=self.save_every_s,
            compile=self.compile,
        )

    def that_matter(self) -> dict[str, Any]:
        """Those that change what is learnt."""
        free = ("time_limit_s", "device", "threads", "fresh", "log_dir", "save_every_s")
        return {k: v for k, v in structs.asdict(self).items() if k not in free}
