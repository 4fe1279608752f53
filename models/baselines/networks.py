"""Networks beside the BERT: its GRU twin, and an encoder of random weights with a trained head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from models.baselines.detector import Draw, Judged
from models.dataset import Dataset, concat
from models.extra import missing
from models.inference import run, seen_passes
from models.network import PRESETS, Network, NetworkConfig
from models.schema import Schema
from models.statistics import gather_statistics
from models.trees import Table
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

_CPU: Final = torch.device("cpu")
_BATCH: Final = 1 << 14  # windows at a time
_LEARNT: Final = 60_000  # normal events that a head is fitted to, at most


class Twin:
    """The same tokens, heads and training as the shipped encoder, with a GRU in its place."""

    name = "gru"
    labels = True

    def __init__(self, schema: Schema, seed: int, *, dropout: float = 0.1, **settings: Any) -> None:
        """`settings`: of the recipe."""
        self._schema, self._seed = schema, seed
        self._dropout, self._settings = dropout, settings
        self._network: Network | None = None

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        from models.training import Recipe, fit_encoder

        if not data.anomalous[fit_on].any():
            raise Misconfigured(
                "gru learns from labels, and there are no anomalies among the events to fit on"
            )
        config = NetworkConfig(size=PRESETS["tiny"], encoder="gru", dropout=self._dropout)
        recipe = Recipe(seed=self._seed, **self._settings)
        self._network = fit_encoder(self._schema, data, fit_on, choose_on, config, recipe).network

    def fit_draws(self, draws: Sequence[Draw]) -> None:
        self.fit(*joined(draws))

    def score(self, data: Dataset, events: Ints) -> Judged:
        if self._network is None:
            raise Misconfigured("gru is not fitted")
        raw = run(self._network, data.windows.take(events), _CPU).logits
        return raw[np.arange(len(events)), data.task[events]].astype(np.float64)


class RandomEncoder:
    """What the encoder's shape and tokens bring without any training of it: logistic regression,
    one a task, on its states and on the event's own numbers.
    """

    name = "random-encoder"
    labels = True

    def __init__(self, schema: Schema, seed: int) -> None:
        self._schema, self._seed = schema, seed
        self._network: Network | None = None
        self._heads: dict[int, Any] = {}

    def fit(self, data: Dataset, fit_on: Ints, choose_on: Ints) -> None:
        statistics = gather_statistics(self._schema, data, fit_on, self._seed)
        config = NetworkConfig(size=PRESETS["tiny"], attention="causal")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = Network(self._schema, config, statistics).eval()
        rng = np.random.default_rng(self._seed)
        normal = fit_on[~data.anomalous[fit_on]]
        if len(normal) > _LEARNT:
            normal = rng.choice(normal, _LEARNT, replace=False)
        anomalous = fit_on[data.anomalous[fit_on]]
        if not len(anomalous) or not len(normal):
            raise Misconfigured(
                "random-encoder learns from labels, and there are not both anomalies and normal "
                "events among those to fit on"
            )
        learnt = np.sort(np.concatenate([normal, anomalous]))
        states, tasks, truth = self._states(data, learnt), data.task[learnt], data.anomalous[learnt]
        self._heads = {-1: _head(states, truth)}
        for task in np.unique(tasks).tolist():
            own = tasks == task
            if min(truth[own].sum(), (~truth[own]).sum()) >= 30:
                self._heads[task] = _head(states[own], truth[own])

    def fit_draws(self, draws: Sequence[Draw]) -> None:
        self.fit(*joined(draws))

    def score(self, data: Dataset, events: Ints) -> Judged:
        states, tasks = self._states(data, events), data.task[events]
        found = np.zeros(len(events))
        for task in np.unique(tasks).tolist():
            own = tasks == task
            head = self._heads.get(task, self._heads[-1])
            found[own] = head.decision_function(states[own])
        return found

    def _states(self, data: Dataset, events: Ints) -> Table:
        """(events, 2 * hidden)"""
        if self._network is None:
            raise Misconfigured("random-encoder is not fitted")
        network = self._network
        found = np.empty((len(events), 2 * network.config.size.hidden), np.float32)
        with torch.inference_mode():
            for begin in range(0, len(events), _BATCH):
                windows = data.windows.take(events[begin : begin + _BATCH])
                for one, seen in seen_passes(self._schema, windows, _CPU, 0, True):
                    tokens, own = network.embed(network.inputs(seen.window, seen.described))
                    at = seen.line, seen.place
                    state = network.encode_at(tokens, seen.lengths, *at)
                    both = torch.cat([state, own[at]], 1)
                    found[begin + one.windows] = both.numpy()
        return found


def joined(draws: Sequence[Draw]) -> tuple[Dataset, Ints, Ints]:
    """Draws as one: data, events to fit on, events to choose on."""
    base = np.cumsum([0, *(len(draw.data) for draw in draws[:-1])])
    return (
        concat([draw.data for draw in draws]),
        np.concatenate([d.fit_on + at for d, at in zip(draws, base, strict=True)]),
        np.concatenate([d.choose_on + at for d, at in zip(draws, base, strict=True)]),
    )


def _head(states: Table, truth: Any) -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise missing("random-encoder", "scikit-learn") from error
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(
        states, truth
    )
