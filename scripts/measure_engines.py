"""Whether another engine would score faster on a CPU: the encoder's part of real passes, in turn.

    python -m venv .venv-engines    # with the packages of this project, and onnxruntime, openvino,
                                    # onnx, onnxscript beside them: none of them is a dependency
    .venv-engines/bin/python -m scripts.measure_engines [--preset tiny] [--rounds 7] [--threads 1]

Passes as the scorer makes them of a simulated day, filled rectangles of up to 2,048 events, random
weights. Each way takes tokens and gives the states of all events: PyTorch as it comes, with packed
weights (as the scorer does it), `torch.compile`, jagged (nested) tensors without filling, ONNX
Runtime, OpenVINO. Beside them the whole pass, to see how much an engine could gain at most.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models import schema as schemas
from models.dataset import gather
from models.encoders import states
from models.inference import read_pass, seen_passes
from models.network import PRESETS, Network, NetworkConfig
from models.packed_linear import packed
from models.simulate.config import SimulationConfig
from models.simulate.shop import simulate
from models.statistics import gather_statistics
from scripts.benchmarks.exported import Causal, exported
from stream_app.core.window import WindowPolicy

CPU: Final = torch.device("cpu")
Way = Callable[[Tensor], Any]


def ways(network: Network, threads: int, trial: Tensor) -> dict[str, Way]:
    """Those that are installed, can be built, and answer."""
    module, config = network.encoder, network.config
    one = torch.zeros(1, dtype=torch.int64)
    made: dict[str, Way] = {"PyTorch": lambda tokens: states(config, module, tokens, one)}
    builders: dict[str, Callable[[], Way]] = {
        "PyTorch, packed weights": lambda: _packed(config, module),
        "torch.compile": lambda: _compiled(module),
        "jagged": lambda: _jagged(module),
        "ONNX Runtime": lambda: _onnx_runtime(module, threads),
        "OpenVINO": lambda: _openvino(module, threads),
    }
    for name, build in builders.items():
        try:
            way = build()
            way(trial)
            made[name] = way
        except Exception as error:  # an engine that is not there, or cannot do it, is told of
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    return made


def _packed(config: NetworkConfig, module: Any) -> Way:
    """As the scorer has it."""
    own = copy.deepcopy(module)
    packed(own)
    one = torch.zeros(1, dtype=torch.int64)
    return lambda tokens: states(config, own, tokens, one)


def _compiled(module: Any) -> Way:
    compiled = torch.compile(Causal(module).eval(), dynamic=True)
    return lambda tokens: compiled(tokens)


def _jagged(module: Any) -> Way:
    """Attention over nested tensors; its lengths are those of the pass, see `main`."""
    layers = module.encoder.layer

    def way(tokens: Tensor) -> Tensor:
        lengths: Tensor = tokens.lengths  # type: ignore[attr-defined]
        inside = torch.arange(tokens.shape[1]) < lengths[:, None]
        known = module.embeddings(inputs_embeds=tokens)[inside]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        for layer in layers:
            attention = layer.attention.self
            heads, width = attention.num_attention_heads, attention.attention_head_size
            query, key, value = (
                torch.nested.nested_tensor_from_jagged(
                    part(known).view(-1, heads, width), offsets
                ).transpose(1, 2)
                for part in (attention.query, attention.key, attention.value)
            )
            with sdpa_kernel(SDPBackend.MATH):  # the others ask for a GPU
                found = nn.functional.scaled_dot_product_attention(
                    query, key, value, is_causal=True
                )
            context = found.transpose(1, 2).values().reshape(len(known), -1)
            known = layer.feed_forward_chunk(layer.attention.output(context, known))
        packed_states: Tensor = known
        return packed_states

    return way


def _onnx_runtime(module: Any, threads: int) -> Way:
    import onnxruntime  # type: ignore[import-not-found]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported(module), options)
    return lambda tokens: session.run(None, {"tokens": tokens.numpy()})[0]


def _openvino(module: Any, threads: int) -> Way:
    import openvino  # type: ignore[import-not-found]

    core = openvino.Core()
    model = core.read_model(exported(module))
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    return lambda tokens: request.infer({"tokens": tokens.numpy()})["states"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--events", type=int, default=12_000)
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    schema = schemas.load("shop")
    made = simulate(SimulationConfig(seed=1, events=given.events))
    lines = [msgspec.json.encode(one.event) for one in made]
    data = gather([lines], {}, schema, WindowPolicy())
    typical = gather_statistics(schema, data, np.arange(len(data)), 0)
    network = Network(schema, NetworkConfig(size=PRESETS[given.preset]), typical)
    network = network.eval().requires_grad_(False)
    windows = data.windows.take(np.arange(len(data) - given.windows, len(data)))
    with torch.inference_mode():
        seen = [one for _, one in seen_passes(schema, windows, CPU, 0, shared=True)]
        passes = []
        for one in seen:
            tokens, _ = network.embed(network.inputs(one.window, one.described))
            tokens.lengths = one.lengths  # type: ignore[attr-defined]
            passes.append(tokens)
        tell(network, seen, passes, ways(network, given.threads, passes[0]), given.rounds)


def tell(
    network: Network, seen: list[Any], passes: list[Tensor], every: dict[str, Way], rounds: int
) -> None:
    events, filled = sum(int(s.lengths.sum()) for s in seen), sum(p[..., 0].numel() for p in passes)
    print(f"{len(passes)} passes of {events:,} events, filled up to {filled:,}")
    inside = [torch.arange(p.shape[1]) < p.lengths[:, None] for p in passes]  # type: ignore[attr-defined]
    expected = [every["PyTorch"](tokens)[mask] for tokens, mask in zip(passes, inside, strict=True)]
    took: dict[str, list[float]] = {name: [] for name in (*every, "the whole pass")}
    worst = dict.fromkeys(every, 0.0)
    for name, way in every.items():
        for tokens, mask, known in zip(passes, inside, expected, strict=True):
            found = torch.as_tensor(np.asarray(way(tokens)))
            found = found if found.dim() == 2 else found[mask]
            worst[name] = max(worst[name], float((found - known).abs().max()))
    for _ in range(rounds):
        for name, way in every.items():
            began = time.perf_counter()
            for tokens in passes:
                way(tokens)
            took[name].append(time.perf_counter() - began)
        began = time.perf_counter()
        for one in seen:
            read_pass(network, one)
        took["the whole pass"].append(time.perf_counter() - began)
    usual = np.array(took["PyTorch"])
    print("| way | us an event | times PyTorch's rate | largest difference |\n|" + " --- |" * 4)
    for name, seconds in took.items():
        ratio = usual / np.array(seconds)
        each = statistics.median(seconds) / events * 1e6
        apart = f"{worst[name]:.1e}" if name in worst else ""
        print(
            f"| {name} | {each:.1f} | {np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f}) "
            f"| {apart} |"
        )


if __name__ == "__main__":
    main()
