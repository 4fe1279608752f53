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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models import bundle as bundles
from models import fusion
from models import schema as schemas
from models.dataset import Dataset
from models.evaluate.judge import judge
from models.evaluate.panel import AP, AUC
from models.evaluate.truth import Truth
from models.flat import FlatBert
from models.inference import run
from models.members import LEAD, Members
from models.network import PRESETS, Network, NetworkConfig
from models.packing import compact
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
    at = np.arange(len(data))
    said: dict[str, Floats] = {}
    for precision in ("bf16", "fp8"):
        reader = RecordedReader(FlatBert(network, precision), device)
        said[precision] = reader.run(data.windows).logits[at, data.task]
    some = np.random.default_rng(0).choice(at, min(EXACT, len(at)), replace=False)
    windows, own = data.windows.take(some), (np.arange(len(some)), data.task[some])
    exact = padded(network, windows, device, BATCH, half=False)[own]
    few = {name: scores[some] for name, scores in said.items()}
    few["the general way in bf16"] = run(network, windows, device).logits[own]
    known = truth_in(data)
    return {
        "events": len(data),
        "anomalous": int(data.anomalous.sum()),
        "fp8 less bf16": less(said, "fp8", known, RESAMPLES)["bf16"],
        "fp32 less, some events": less({**few, "fp32": exact}, "fp32", known.take(some), 0),
        "largest difference from fp32": {
            name: float(np.abs(scores - exact).max()) for name, scores in few.items()
        },
    }


def truth_in(data: Dataset) -> Truth:
    """What the simulator says of every event; campaigns are not told apart."""
    windows = data.windows
    nothing = np.zeros(len(data), np.int64)
    return Truth(
        anomalous=data.anomalous,
        user=np.array(data.users)[data.user],
        at_ms=windows.rows["at_ms"][windows.index[:, -1]],
        campaign=np.full(len(data), ""),
        draw=nothing,
        groups={},
    )


def less(
    said: Mapping[str, Floats], reference: str, known: Truth, resamples: int
) -> dict[str, dict[str, Any]]:
    """The reference's measures less those of each other, with 95 % intervals over users."""
    report = judge(said, known, reference=reference, bootstrap=resamples)
    return {
        name: {key: msgspec.to_builtins(gaps[key]) for key in (AUC, AP)}
        for name, gaps in report.differences.items()
    }


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
        found.append((compact(data.windows.take(some)), data.task[some]))
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
