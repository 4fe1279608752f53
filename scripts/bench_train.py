"""How fast an encoder is trained: events a second, and the share of the device's matmul ceiling.

    python scripts/bench_train.py --events 10000000 --preset small --lines 4096 --compile

Simulates shops (in as many processes as there are cores), reads them as training does, and takes
supervised steps over them for some seconds: forward, both losses, backward, clipping, optimiser.
Steps are put together on the device. Prints events a second (filling does not count), FLOPs an
event (of matrix products, counted over one step, forward and backward, by position), and the share
that this is of the FLOPs that large matrix products reach in the same process and number format:
work on filling is no work. Needs PyTorch,
transformers, accelerate, numpy, msgspec and xxhash.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from models import bundle as bundles
from models import schema as schemas
from models.dataset import Dataset, Label, concat, gather
from models.inference import mixed_precision
from models.network import PRESETS, Network, NetworkConfig
from models.simulate.config import SimulationConfig
from models.simulate.shop import simulate
from models.statistics import gather_statistics
from models.training.batches import Batches
from models.training.loop import Loop, Phase, optimiser_of, positive_weight
from models.training.processes import Processes
from models.training.recipe import Recipe, rate_for
from models.training.watch import Watch
from stream_app.core.window import WindowPolicy

SHOP = 500_000  # events
CEILING = {"cuda": 8192, "cpu": 1024}  # side of the matrices


def main() -> None:
    told = arguments()
    device = bundles.pick_device(told.device)
    torch.set_num_threads(told.threads or torch.get_num_threads())
    began = time.perf_counter()
    data = shops(told.events)
    print(
        f"{len(data):,} simulated events of {len(data.users):,} users in "
        f"{time.perf_counter() - began:.0f} s; windows of {data.windows.length.mean():.1f} events"
    )
    ceiling = matmul_flops(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    kind = "bf16" if device.type == "cuda" else "fp32"
    print(f"{name}: {ceiling / 1e12:.2f} TFLOP/s in {kind} matrix products")

    loop, phase = prepared(data, told, device)
    steps = phase.batches.epoch(np.random.default_rng(0))
    whole = [step for step in steps if len(step) == told.lines] or steps
    optimiser = optimiser_of(loop.network, loop.recipe)
    flops = flops_of(loop, phase, whole[0])
    real = np.array([data.windows.length[step].sum() for step in whole])
    per_event = flops / phase.batches.step(whole[0]).rows.numel()

    for at, step in enumerate(itertools.islice(itertools.cycle(whole), told.warm_up)):
        loop.advance(phase, step, optimiser, at)
    synchronise(device)
    began, seen, taken = time.perf_counter(), 0, 0
    while (spent := time.perf_counter() - began) < told.seconds:
        at = (told.warm_up + taken) % len(whole)
        loop.advance(phase, whole[at], optimiser, taken)
        seen, taken = seen + int(real[at]), taken + 1
        if taken % 20 == 0:
            synchronise(device)
    synchronise(device)
    spent = time.perf_counter() - began
    rate = seen / spent
    print(f"{told.preset}: {rate:,.0f} events/s ({taken} steps of {told.lines} in {spent:.1f} s)")
    fresh = len(data) / sum(data.windows.length[step].sum() for step in steps)
    print(f"an epoch shows each event {1 / fresh:.2f} times: {rate * fresh:,.0f} new events/s")
    print(f"{per_event / 1e6:.1f} MFLOP an event: {rate * per_event / 1e12:.2f} TFLOP/s")
    print(f"{rate * per_event / ceiling:.1%} of the ceiling")
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--encoder", choices=("bert", "gpt", "gru"), default="bert")
    parser.add_argument("--lines", type=int, default=4096, help="windows a step")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-up", type=int, default=10, help="steps before the clock runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def shops(events: int) -> Dataset:
    """Several of them, as one data set without names and labels' texts."""
    sizes = [min(SHOP, events - at) for at in range(0, events, SHOP)]
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(sizes))) as pool:
        return concat(list(pool.map(shop, itertools.count(1), sizes)))


def shop(seed: int, events: int) -> Dataset:
    known: dict[str, Label] = {}
    lines = []
    for made in simulate(SimulationConfig(seed=seed, events=events)):
        lines.append(msgspec.json.encode(made.event))
        if made.label.label:
            known[made.label.event_id] = Label(made.label.event_id, 1)
    data = gather([lines], known, schemas.load("shop"), WindowPolicy())
    return msgspec.structs.replace(data, event_ids=(), labels=())


def prepared(data: Dataset, told: argparse.Namespace, device: torch.device) -> tuple[Loop, Phase]:
    schema, everything = schemas.load("shop"), np.arange(len(data))
    config = NetworkConfig(size=PRESETS[told.preset], encoder=told.encoder)
    torch.manual_seed(0)
    network = Network(schema, config, gather_statistics(schema, data, everything, 0))
    recipe = Recipe(
        lines=told.lines, compile=told.compile, rate=rate_for(config.size.hidden, warm=False)
    )
    processes = Processes(device)
    balance = positive_weight(float(data.anomalous.sum()), float(len(data)))
    loop = Loop(network.to(device), data, everything[:0], balance, recipe, processes, Watch(), None)
    batches = Batches(
        data,
        everything,
        np.ones(len(data), np.float32),
        causal=True,
        lines=told.lines,
        device=processes.device,
        round_to=16 if told.compile else 1,
    )
    network.train()
    return loop, Phase("epoch", batches, 1, True)


def flops_of(loop: Loop, phase: Phase, events: np.ndarray) -> int:
    """Of matrix products in one step's forward and backward pass, uncompiled."""
    compiled, loop.module = loop.module, loop.objective
    with FlopCounterMode(display=False) as counter:
        loop.processes.backward(loop.losses(phase, events, 0).total)
    loop.network.zero_grad(set_to_none=True)
    loop.module = compiled
    return int(counter.get_total_flops())


def matmul_flops(device: torch.device, seconds: float = 3.0) -> float:
    """FLOPs a second of large square products, in the format that training uses."""
    side = CEILING[device.type]
    with mixed_precision(device), torch.no_grad():
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
        for _ in range(5):
            torch.mm(left, right)
        synchronise(device)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for _ in range(10):
                torch.mm(left, right)
            synchronise(device)
            count += 10
        return 2 * side**3 * count / (time.perf_counter() - began)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
