"""One encoder member of a bundle: a network and its statistics, fitted to parts of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from msgspec import Struct

from models.dataset import Dataset
from models.network import Network, NetworkConfig, Statistics
from models.schema import Schema
from models.statistics import gather_statistics, typical_input
from models.training.batches import Batches, Weights
from models.training.loop import CHOOSE_AT_MOST, Loop, positive_weight
from models.training.recipe import Progress, Recipe
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
    device: torch.device | None = None,
    progress: Progress = lambda _: None,
) -> Encoder:
    """Pre-train, then learn from labels; the epoch that is best on `choose_on` is kept.

    `fit_on`, `choose_on` and `pretrain_on` (`fit_on` if not given) are positions of events in
    `data`, `weight` (events of `data`,) scales the loss of each. Without an anomaly among `fit_on`
    there is pre-training alone. The same arguments give the same weights on a CPU.
    """
    place = device or torch.device("cpu")
    weights = np.ones(len(data), np.float32) if weight is None else weight
    before = fit_on if pretrain_on is None else pretrain_on
    torch.manual_seed(recipe.seed)
    statistics = gather_statistics(schema, data, before, recipe.seed)
    network = Network(schema, config, statistics).to(place)
    anomalies = int(data.anomalous[fit_on].sum())
    balance = positive_weight(anomalies, len(fit_on))
    rng = np.random.default_rng(recipe.seed)
    chosen = choose_on
    if len(chosen) > CHOOSE_AT_MOST:
        chosen = np.sort(rng.choice(chosen, CHOOSE_AT_MOST, replace=False))
    loop = Loop(network, data, chosen, balance, recipe, place, progress)
    made: dict[str, Any] = {"causal": config.attention == "causal", "lines": recipe.lines}
    every = np.ones(len(data), np.float32)
    loop.phase("pre-training", Batches(data, before, every, **made), recipe.pretrain_epochs, False)
    epochs = 0
    if anomalies:
        batches = Batches(data, fit_on, weights, **made)
        epochs = loop.phase("epoch", batches, recipe.epochs, True)
    else:
        progress("no anomalies to learn from: the scores will tell nothing")
    typical = typical_input(network, data, fit_on, recipe.seed)
    network.typical.copy_(typical.to(place))
    return Encoder(network, statistics, epochs)
