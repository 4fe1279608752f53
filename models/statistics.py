"""What events of the fit part look like: edges of the codes, classes to guess, what is usual."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dataset import Dataset
from models.features import Columns, columns, describe, numbers
from models.network import Network, Statistics
from models.packing import left_aligned
from models.schema import Schema
from stream_app.core.window import Ints

_BINS: Final = 12
_GUESSED: Final = 10  # classes of a guessed number, besides "missing"
_SAMPLE: Final = 20_000  # events looked at
_CHUNK: Final = 512

Array = NDArray[np.floating[Any]]


def gather_statistics(schema: Schema, dataset: Dataset, events: Ints, seed: int) -> Statistics:
    """From a sample of `events`, each as of itself."""
    sample = _sampled(events, seed)
    described = np.concatenate([_newest(schema, dataset, some)[1] for some in _chunks(sample)])
    normal = described[~dataset.anomalous[sample]]
    by_name = {n.name: at for at, n in enumerate(numbers(schema))}
    guessed = ["gap", *(f.name for f in schema.of_kind("amount", "ordinal"))]
    types = dataset.windows.rows["type"][dataset.row[sample]]
    shares = np.bincount(types, minlength=len(schema.types) + 1)[1:] / len(sample)
    return Statistics(
        edges=tuple(_edges(described[:, at]) for at in range(described.shape[1])),
        bins={name: _classes(normal[:, by_name[name]]) for name in guessed},
        expected=tuple(_usual(normal[:, at]) for at in range(described.shape[1])),
        type_shares=tuple(float(share) for share in shares),
    )


def typical_input(network: Network, dataset: Dataset, events: Ints, seed: int) -> Tensor:
    """The mean input of normal events."""
    sample = _sampled(events[~dataset.anomalous[events]], seed)
    device = network.typical.device
    total = torch.zeros_like(network.typical)
    with torch.no_grad():
        for some in _chunks(sample):
            window, described = _newest(network.schema, dataset, some)
            inputs = network.inputs(
                window.to(device), torch.from_numpy(described)[:, None].to(device)
            )
            total += inputs.sum((0, 1))
    return total / max(len(sample), 1)


def _sampled(events: Ints, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(events, min(len(events), _SAMPLE), replace=False))


def _chunks(sample: Ints) -> list[Ints]:
    return [sample[at : at + _CHUNK] for at in range(0, len(sample), _CHUNK)]


def _newest(schema: Schema, dataset: Dataset, events: Ints) -> tuple[Columns, Array]:
    """The events' own columns (events, 1) and what is described of them (events, numbers)."""
    windows = dataset.windows
    length = torch.from_numpy(windows.length[events])
    index = left_aligned(windows, events, int(length.max()))
    rows, place = np.unique(index, return_inverse=True)
    held = columns(schema, windows.rows[rows])
    window = held.gather(torch.from_numpy(place.reshape(index.shape)))
    line = torch.arange(len(events))
    newest = Columns(*(c[line, length - 1][:, None] for c in window))
    described: Array = describe(schema, window)[line, length - 1].numpy()
    return newest, described


def _edges(values: Array) -> tuple[float, ...]:
    """Half of the edges by quantile, half evenly: heavy tails keep their resolution."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return tuple(float(at) for at in range(_BINS + 1))
    low, high = np.quantile(known, [0.001, 0.999])
    even = np.linspace(low, high if high > low else low + 1, _BINS + 2 - _BINS // 2)
    quantiles = np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1:2])
    knots = np.unique(np.concatenate([quantiles, even]))
    place = np.linspace(0, 1, _BINS + 1)
    edges = np.interp(place, np.linspace(0, 1, len(knots)), knots)
    least = max(float(edges[-1] - edges[0]) * 1e-4, 1e-4)
    edges = np.maximum.accumulate(edges - least * np.arange(_BINS + 1))
    return tuple((edges + least * np.arange(_BINS + 1)).tolist())


def _classes(values: Array) -> tuple[float, ...]:
    """Inner edges of about equally frequent classes."""
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return ()
    return tuple(np.unique(np.quantile(known, np.linspace(0, 1, _GUESSED + 1)[1:-1])).tolist())


def _usual(values: Array) -> tuple[float, float]:
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return (0.0, 0.0)
    low, high = np.quantile(known, [0.05, 0.95])
    return float(low), float(high)
