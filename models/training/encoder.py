"""One encoder member of a bundle: a network and its statistics, fitted to parts of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from msgspec import Struct

from models.dataset import Dataset
from models.network import Network, NetworkConfig, Statistics
from models.schema import Schema
from models.statistics import gather_statistics, typical_input
from models.training.batches import Batches, Weights
from models.training.checkpoint import Checkpoint
from models.training.loop import CHOOSE_AT_MOST, Loop, Phase, positive_weight
from models.training.processes import Processes
from models.training.recipe import Progress, Recipe
from models.training.warm_start import Start
from models.training.watch import Watch
from stream_app.core.window import Ints


class Encoder(Struct, frozen=True):
    """`network` is ready to evaluate, on the device that it was fitted on."""

    network: Network
    statistics: Statistics
    epochs: int  # with labels


def fit_encoder(
    schema: Schema,
    data: Dataset,
    fit_on: Ints,
    choose_on: Ints,
    config: NetworkConfig,
    recipe: Recipe,
    *,
    weight: Weights | None = None,
    pretrain_on: Ints | None = None,
    start: Start | None = None,
    device: torch.device | None = None,
    processes: Processes | None = None,
    progress: Progress | Watch = lambda _: None,
    work: Path | None = None,
) -> Encoder:
    """Pre-train, then learn from labels; the epoch that is best on `choose_on` is kept.

    `fit_on`, `choose_on` and `pretrain_on` (`fit_on` if not given) are positions of events in
    `data`, `weight` (events of `data`,) scales the loss of each. Without an anomaly among `fit_on`
    there is pre-training alone. `start` has weights to begin from. `work` is a folder for
    checkpoints: with what is found there, a training that was broken off goes on. The same
    arguments give the same weights on a CPU, broken off or not. Raises Misconfigured.
    """
    config.check()
    recipe.check()
    together = processes or Processes(device or torch.device("cpu"))
    watch = progress if isinstance(progress, Watch) else Watch(progress)
    weights = np.ones(len(data), np.float32) if weight is None else weight
    before = fit_on if pretrain_on is None else pretrain_on
    torch.manual_seed(recipe.seed)
    known = start.statistics if start is not None else None
    statistics = known or gather_statistics(schema, data, before, recipe.seed)
    network = Network(schema, config, statistics)
    if start is not None:
        start.give(network)
    network.to(together.device)
    counts = weights[fit_on]
    anomalies = float(counts[data.anomalous[fit_on]].sum())
    chosen = choose_on
    if len(chosen) > CHOOSE_AT_MOST:
        rng = np.random.default_rng(recipe.seed)
        chosen = np.sort(rng.choice(chosen, CHOOSE_AT_MOST, replace=False))

    def batches(events: Ints, counts: Weights) -> Batches:
        causal = config.attention == "causal"
        return Batches(
            data,
            events,
            counts,
            causal=causal,
            lines=recipe.lines,
            device=together.device,
            round_to=16 if recipe.compile else 1,
        )

    every = np.ones(len(data), np.float32)
    phases = [Phase("pre-training", batches(before, every), recipe.pretrain_epochs, False)]
    if anomalies:
        phases.append(Phase("epoch", batches(fit_on, weights), recipe.epochs, True))
    else:
        watch.say("no anomalies to learn from: the scores will tell nothing")
    balance = positive_weight(anomalies, float(counts.sum()), recipe.positive_share)
    checkpoint = Checkpoint(work) if work is not None else None
    loop = Loop(network, data, chosen, balance, recipe, together, watch, checkpoint)
    epochs = loop.run(phases)
    typical = typical_input(network, data, before, recipe.seed)
    network.typical.copy_(typical.to(together.device))
    return Encoder(network, statistics, epochs if anomalies else 0)
