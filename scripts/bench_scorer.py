"""How many windows a second are scored: this way, and the usual ways, in one interleaved run.

    python scripts/bench_scorer.py                               # tiny on the CPU, one thread
    python scripts/bench_scorer.py --device cuda --presets tiny small base --rounds 5

From encoded events in host memory to logits in host memory. Three sorts of batches: `spread`,
events picked at random from half a simulated day (the more of them, the more windows of a user
overlap), `backlog`, events as they came, and `apart`, those of `spread` with rows of their own, so
that nothing is shared.
Ways: `packed` (as the scorer does it, the surprise told too: models.inference.run on a CPU,
models.recorded on CUDA), `padded` (batches of 32 filled up to 64 events, fp32), `padded bf16` (CUDA
alone), `onnx` (CUDA alone, where onnxruntime-gpu is there: batches of 512 filled so, the encoder by
ONNX Runtime in fp16, all else as in `padded bf16`) and `alone` (each window by itself, filled up to
64). Prints medians over the rounds, the
largest difference of a logit from those of `alone`, the share of the device's matmul ceiling if
every window had been computed by itself (true of `apart` alone: what windows share is computed
once), how long it took to be ready, and latencies of small batches.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from models import bundle as bundles
from models import schema as schemas
from models.compress.int8 import quantised
from models.dataset import gather
from models.features import Columns, columns
from models.flat import FlatBert
from models.inference import mixed_precision, run
from models.network import PRESETS, Network, NetworkConfig
from models.packed_linear import packed
from models.packing import compact, left_aligned
from models.recorded import RecordedReader
from models.simulate.config import SimulationConfig
from models.simulate.shop import simulate
from models.statistics import gather_statistics
from scripts.benchmarks.exported import OnnxOnCuda
from stream_app.core.window import WindowPolicy, Windows

FULL: Final = 64  # events that a padded window has
BATCH: Final = 32
LARGE: Final = 512
CEILING: Final = {"cuda": 8192, "cpu": 1024}  # side of the matrices
Way = Callable[[Windows], np.ndarray]


def main() -> None:
    told = arguments()
    device = bundles.pick_device(told.device)
    torch.set_num_threads(told.threads)
    schema = schemas.load("shop")
    lines = [
        msgspec.json.encode(made.event)
        for made in simulate(SimulationConfig(seed=1, events=told.events))
    ]
    data = gather([lines], {}, schema, WindowPolicy(span_ms=told.hours * 3_600_000))
    typical = gather_statistics(schema, data, np.arange(len(data)), 0)
    ceiling = matmul_flops(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, PyTorch {torch.__version__}: matmul ceiling {ceiling / 1e12:.2f} TFLOP/s")
    about = {"device": name, "torch": torch.__version__, "threads": told.threads}
    found: list[dict[str, Any]] = []
    for preset in told.presets:
        torch.manual_seed(0)
        network = Network(schema, NetworkConfig(size=PRESETS[preset]), typical)
        network = network.to(device).eval().requires_grad_(False)
        began = time.perf_counter()
        ours = our_way(network, device, told)
        ready_s = time.perf_counter() - began
        onnx = onnx_way(network, device)
        for sort, windows in batches_of(data.windows, told.windows).items():
            one = measure(network, ours, onnx, windows, device, told)
            one["share of the ceiling"] = one["packed"] * one["FLOP a window"] / ceiling
            found.append({"preset": preset, "batch": sort, "ready s": ready_s, **one})
            print(json.dumps(found[-1]), flush=True)
            if told.json:
                report = {**about, "ceiling": ceiling, "results": found}
                told.json.write_text(json.dumps(report, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=["tiny"])
    parser.add_argument("--precision", choices=("bf16", "fp8"), default="bf16", help="on CUDA")
    parser.add_argument("--int8", action="store_true", help="packed, on a CPU: as `compress` does")
    parser.add_argument("--events", type=int, default=40_000, help="of the simulated day")
    parser.add_argument("--hours", type=int, default=24, help="that a window looks back")
    parser.add_argument("--windows", type=int, default=2048, help="of a batch")
    parser.add_argument("--alone", type=int, default=100, help="windows scored one by one")
    parser.add_argument("--padded", type=int, default=1024, help="windows scored padded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=256, help="windows of a small batch")
    parser.add_argument("--small-rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def batches_of(windows: Windows, count: int) -> dict[str, Windows]:
    """Of events from the later half of the day."""
    late = np.arange(len(windows) // 2, len(windows))
    spread = np.random.default_rng(0).choice(late, min(count, len(late)), replace=False)
    picked = windows.take(spread)
    return {"spread": picked, "backlog": windows.take(late[:count]), "apart": apart(picked)}


def apart(windows: Windows) -> Windows:
    """The same with rows of their own, one window after another, as if of as many users."""
    mask = windows.mask()
    last = np.cumsum(windows.length)
    index = (last - windows.length)[:, None].repeat(mask.shape[1], 1)
    index[mask] = np.arange(last[-1])
    return Windows(windows.rows[windows.index[mask]], index.astype(np.int32), windows.length)


def our_way(network: Network, device: torch.device, told: argparse.Namespace) -> Way:
    """As `BundleScorer` does it."""
    if device.type == "cpu":
        asked = quantised(network) if told.int8 else copy.deepcopy(network)
        packed(asked)
        return lambda some: run(asked, some, device).logits
    reader = RecordedReader(FlatBert(network, told.precision), device)
    return lambda some: reader.run(some).logits


def onnx_way(network: Network, device: torch.device) -> OnnxOnCuda | None:
    """None where it cannot be: a CPU, or no onnxruntime that knows CUDA."""
    if device.type == "cpu" or importlib.util.find_spec("onnxruntime") is None:
        return None
    try:
        return OnnxOnCuda(copy.deepcopy(network.encoder).cpu())
    except ImportError as error:
        print(f"without ONNX Runtime: {error}")
        return None


def measure(
    network: Network,
    ours: Way,
    onnx: OnnxOnCuda | None,
    windows: Windows,
    device: torch.device,
    told: argparse.Namespace,
) -> dict[str, Any]:
    """Windows a second of each way, and what else there is to tell."""
    ways: dict[str, tuple[int, Way]] = {
        "packed": (len(windows), ours),
        "padded": (told.padded, lambda some: padded(network, some, device, BATCH, False)),
        "alone": (told.alone, lambda some: padded(network, some, device, 1, False)),
    }
    if device.type == "cuda":
        ways["padded bf16"] = told.padded, lambda some: padded(network, some, device, BATCH, True)
    if onnx is not None:
        count = 8 * LARGE
        ways["onnx"] = count, lambda some: padded(network, some, device, LARGE, True, onnx)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, np.ndarray] = {}
    for round_ in range(-1, told.rounds):  # the first one warms up
        for name, (count, way) in ways.items():
            some = windows.take(np.arange(min(count, len(windows))))
            began = time.perf_counter()
            said[name] = way(some)
            if round_ >= 0:
                rates[name].append(len(some) / (time.perf_counter() - began))
    count = len(said["alone"])
    small = small_ms(ours, windows, told)
    middle = {name: statistics.median(some) for name, some in rates.items()}
    return {
        "mean events": float(windows.length.mean()),
        **middle,
        "rounds": rates,
        "times alone": middle["packed"] / middle["alone"],
        "times padded": middle["packed"] / middle["padded"],
        "least times alone": float(np.min(np.divide(rates["packed"], rates["alone"]))),
        "least times padded": float(np.min(np.divide(rates["packed"], rates["padded"]))),
        "largest difference": float(np.abs(said["packed"][:count] - said["alone"]).max()),
        **(_beside(said, middle) if onnx is not None else {}),
        "FLOP a window": flops_of(network, windows, device),
        "small batch p50 ms": float(np.quantile(small, 0.5)),
        "small batch p99 ms": float(np.quantile(small, 0.99)),
        "small batch max ms": float(max(small)),
    }


def _beside(said: dict[str, np.ndarray], middle: dict[str, float]) -> dict[str, float]:
    """ONNX Runtime: how far it is from `alone`, and how much slower than `packed`."""
    count = len(said["alone"])
    return {
        "times onnx": middle["packed"] / middle["onnx"],
        "largest difference of onnx": float(np.abs(said["onnx"][:count] - said["alone"]).max()),
    }


def small_ms(ours: Way, windows: Windows, told: argparse.Namespace) -> list[float]:
    """Host to host, one small batch with its own rows after the other."""
    rng, found = np.random.default_rng(1), []
    for at in range(-20, told.small_rounds):
        begin = int(rng.integers(max(1, len(windows) - told.small)))
        some = compact(windows.take(np.arange(begin, min(begin + told.small, len(windows)))))
        began = time.perf_counter()
        ours(some)
        if at >= 0:
            found.append((time.perf_counter() - began) * 1000)
    return found


def padded(
    network: Network,
    windows: Windows,
    device: torch.device,
    size: int,
    half: bool,
    encoder: OnnxOnCuda | None = None,
) -> np.ndarray:
    """(windows, tasks) logits in batches of `size`, every window filled up to FULL events."""
    found = []
    precision = mixed_precision(device) if half else nullcontext()
    with torch.inference_mode(), precision:
        for begin in range(0, len(windows), size):
            which = np.arange(begin, min(begin + size, len(windows)))
            index = left_aligned(windows, which, FULL)
            held = columns(network.schema, windows.rows[index.ravel()])
            shape = index.shape
            window = Columns(*(c.view(*shape, *c.shape[1:]).to(device) for c in held))
            length = torch.from_numpy(windows.length[which]).to(device)
            tokens, own = network.embed(network.inputs(window, network.describe(window)))
            states = network.encode(tokens, length) if encoder is None else encoder(tokens)
            at = torch.arange(len(which), device=device), length - 1
            logits = network.logits(states[at], own[at])
            found.append(logits.cpu().numpy())
    return np.concatenate(found)


def flops_of(network: Network, windows: Windows, device: torch.device) -> float:
    """Of matrix products, of a window of mean length by itself: no filling, nothing shared."""
    length = round(float(windows.length.mean()))
    near = np.abs(windows.length - length).argmin()
    with FlopCounterMode(display=False) as counter:
        run(network, windows.take(np.array([near])), device)
    return float(counter.get_total_flops())


def matmul_flops(device: torch.device, seconds: float = 2.0) -> float:
    """FLOPs a second of large square products: bf16 on CUDA, fp32 on a CPU."""
    side = CEILING[device.type]
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    (left @ right).sum().item()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(5):
            product = left @ right
        product[0, 0].item()  # waits for the device
        count += 5
    return 2 * side**3 * count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
