"""A trained model on a GPU: what fp8 changes of its scores, and how long a micro-batch waits.

    python3 -m scripts.measure_gpu [--preset base] [--events 500000] [--seconds 15] [--json FILE]

Fits an encoder to one simulated shop and asks it about another one, in bf16 and in fp8 (and some
events in fp32): ROC-AUC, average precision, intervals of the differences by bootstrap of users.
Then micro-batches of 256 windows reach `BundleScorer` at half the rate that it keeps up with, at
equal times and at random ones (Poisson); a micro-batch waits from the moment at which it should
have been sent until its scores are there. Needs what `bench_scorer.py --device cuda` needs, and
accelerate.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models import bundle as bundles
from models import fusion
from models import schema as schemas
from models.dataset import Dataset
from models.flat import FlatBert
from models.inference import run
from models.measures import average_precision
from models.members import LEAD, Members
from models.network import PRESETS, Network, NetworkConfig
from models.recorded import RecordedReader
from models.scorer import BundleScorer
from models.training.encoder import fit_encoder
from models.training.finish import write
from models.training.recipe import Recipe, rate_for
from scripts.bench_scorer import padded
from scripts.bench_train import shop
from stream_app.core.window import Ints, Windows

Floats = NDArray[np.float32]

MICRO: Final = 256  # windows of a micro-batch
AT_ONCE: Final = 8  # micro-batches under way while the rate is measured
RATE_S: Final = 5.0
EXACT: Final = 20_000  # events that fp32 is asked about, without what is shared
BATCH: Final = 32
RESAMPLES: Final = 300


def main() -> None:
    told = arguments()
    device = torch.device("cuda")
    learnt, asked = shop(1, told.events), shop(99, told.judge)
    began = time.perf_counter()
    network = fitted(learnt, told, device)
    print(
        f"{torch.cuda.get_device_name()}: fitted in {time.perf_counter() - began:.0f} s", flush=True
    )
    report: dict[str, Any] = {"device": torch.cuda.get_device_name(), "preset": told.preset}
    report["precision"] = precisions(network, asked, device)
    print(json.dumps(report["precision"], indent=1), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        made = saved(Path(folder) / "bundle", network, asked, device)
        for precision in ("bf16", "fp8"):
            bundle = bundles.load(made, "cuda")
            scorer = BundleScorer(bundle, precision=precision)
            try:
                report[precision] = asyncio.run(waits(scorer, asked, told.seconds))
            finally:
                scorer.close()
            print(precision, json.dumps(report[precision], indent=1), flush=True)
    if told.json:
        told.json.write_text(json.dumps(report, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--events", type=int, default=500_000, help="to fit to")
    parser.add_argument("--judge", type=int, default=200_000, help="of the other shop")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each sort of load")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def fitted(data: Dataset, told: argparse.Namespace, device: torch.device) -> Network:
    every = np.arange(len(data))
    config = NetworkConfig(size=PRESETS[told.preset])
    recipe = Recipe(
        epochs=told.epochs,
        pretrain_epochs=1,
        lines=512,
        rate=rate_for(config.size.hidden, warm=False),
    )
    chosen = every[data.user % 10 == 0]
    found = fit_encoder(
        schemas.load("shop"),
        data,
        every[data.user % 10 != 0],
        chosen,
        config,
        recipe,
        device=device,
        progress=lambda said: print(said, flush=True),
    )
    return found.network.eval().requires_grad_(False)


def precisions(network: Network, data: Dataset, device: torch.device) -> dict[str, Any]:
    """Of the scores in bf16, in fp8, and of fp32 where it was asked."""
    windows, tasks, anomalous = data.windows, data.task, data.anomalous
    at = np.arange(len(data))
    said: dict[str, Floats] = {}
    for precision in ("bf16", "fp8"):
        reader = RecordedReader(FlatBert(network, precision), device)
        said[precision] = reader.run(windows).logits[at, tasks]
    some = np.random.default_rng(0).choice(at, min(EXACT, len(at)), replace=False)
    exact = padded(network, windows.take(some), device, BATCH, half=False)
    exact = exact[np.arange(len(some)), tasks[some]]
    general = run(network, windows.take(some), device).logits[np.arange(len(some)), tasks[some]]
    found: dict[str, Any] = {"events": len(data), "anomalous": int(anomalous.sum())}
    for name, scores in said.items():
        found[name] = {
            "ROC-AUC": area(scores, anomalous),
            "average precision": average_precision(scores, anomalous),
            "ROC-AUC less fp32's, some events": area(scores[some], anomalous[some])
            - area(exact, anomalous[some]),
            "largest difference from fp32": float(np.abs(scores[some] - exact).max()),
        }
    found["the general way in bf16, largest difference from fp32"] = float(
        np.abs(general - exact).max()
    )
    found["fp8 less bf16"] = {
        "ROC-AUC": between(said["fp8"], said["bf16"], data, area),
        "average precision": between(said["fp8"], said["bf16"], data, average_precision),
    }
    return found


def area(scores: Floats, anomalous: NDArray[np.bool_]) -> float:
    """Under the ROC curve; equal scores count half."""
    values, place = np.unique(scores, return_inverse=True)
    above = np.bincount(place, anomalous, len(values))
    below = np.bincount(place, ~anomalous, len(values))
    beaten = np.cumsum(below) - below / 2
    return float((above * beaten).sum() / (above.sum() * below.sum()))


def between(one: Floats, other: Floats, data: Dataset, measure: Any) -> dict[str, float]:
    """Of `measure`, with its 95 % interval over users."""
    rng = np.random.default_rng(0)
    order = np.argsort(data.user, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(data.user[order])) + 1)
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([parts[at] for at in rng.integers(len(parts), size=len(parts))])
        truth = data.anomalous[drawn]
        found.append(measure(one[drawn], truth) - measure(other[drawn], truth))
    low, high = np.quantile(found, [0.025, 0.975])
    value = measure(one, data.anomalous) - measure(other, data.anomalous)
    return {"value": value, "low": float(low), "high": float(high)}


def saved(folder: Path, network: Network, data: Dataset, device: torch.device) -> Path:
    """As a bundle, calibrated on some of the events."""
    some = np.arange(0, len(data), 4)
    tasks, raw = data.task[some], run(network, data.windows.take(some), device).logits
    own = {LEAD: raw[np.arange(len(some)), tasks]}
    found = fusion.fit(own, [], data.anomalous[some], tasks, raw.shape[1])
    write(folder, "measured", Members({LEAD: network.cpu()}), found, {}, data, some)
    return folder


async def waits(scorer: BundleScorer, data: Dataset, seconds: float) -> dict[str, Any]:
    """At half the rate that the scorer keeps up with."""
    batches = micro_batches(data)
    gc.collect()
    gc.freeze()  # as a worker does
    await scorer.score(*batches[0])
    alone = []
    for batch in batches[:300]:
        began = time.perf_counter()
        await scorer.score(*batch)
        alone.append(time.perf_counter() - began)
    rate = await kept_up(scorer, batches)
    found: dict[str, Any] = {"windows/s, micro-batches": rate * MICRO, "alone": quantiles(alone)}
    rng = np.random.default_rng(1)
    count = int(seconds * rate / 2)
    gaps = {"equal times": np.full(count, 2 / rate), "random": rng.exponential(2 / rate, count)}
    for name, some in gaps.items():
        found[f"half load, {name}"] = quantiles(await sent(scorer, batches, some.cumsum()))
    return found


def micro_batches(data: Dataset) -> list[tuple[Windows, Ints]]:
    """Events in their order, each micro-batch with rows of its own, as a worker has it."""
    found = []
    for begin in range(len(data) // 2, len(data) - MICRO, MICRO):
        some = np.arange(begin, begin + MICRO)
        windows = data.windows.take(some)
        rows, index = np.unique(windows.index, return_inverse=True)
        index = index.reshape(windows.index.shape)
        found.append((Windows(windows.rows[rows], index, windows.length), data.task[some]))
    return found


async def kept_up(scorer: BundleScorer, batches: Sequence[tuple[Windows, Ints]]) -> float:
    """Micro-batches a second with a few of them always under way."""
    done, until = 0, time.perf_counter() + RATE_S

    async def one(at: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await scorer.score(*batches[at % len(batches)])
            done, at = done + 1, at + AT_ONCE

    began = time.perf_counter()
    await asyncio.gather(*(one(at) for at in range(AT_ONCE)))
    return done / (time.perf_counter() - began)


async def sent(
    scorer: BundleScorer, batches: Sequence[tuple[Windows, Ints]], times_s: NDArray[np.float64]
) -> list[float]:
    """How long each took, in s, from when it was due."""
    began = time.perf_counter() + 0.1
    found: list[float] = []

    async def one(at: int, due: float) -> None:
        await scorer.score(*batches[at % len(batches)])
        found.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for at, after in enumerate(times_s.tolist()):
            due = began + after
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(at, due))
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"p50 ms": 1000 * p50, "p99 ms": 1000 * p99, "max ms": 1000 * max(seconds)}


if __name__ == "__main__":
    main()
