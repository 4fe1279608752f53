"""Windows without filling are scored as they are in rectangles.

Triton's interpreter (`tests/conftest.py`) stands for the GPU; what only a GPU shows, graphs and
bf16, `scripts/bench_scorer.py --device cuda` compares.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from torch.nn import functional as F

from models.bundle import Bundle, load, save, score
from models.dataset import Dataset
from models.features import words
from models.flat import LONGEST, Bucket, FlatBert, suits
from models.inference import run
from models.network import Network
from models.packing import left_aligned, lines_of
from models.scorer import BundleScorer
from stream_app.core.errors import Misconfigured

pytest.importorskip("triton")
from models.attention_kernel import attend
from models.placing_kernel import place


def test_flat_windows_score_like_rectangles(
    bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    windows, network = dataset.windows.take(some[:40]), bundle.network
    assert suits(network)
    order, size = lines_of(windows, shared=True), Bucket(1024)
    length = windows.length[order.lines]
    ends = np.cumsum(length)
    assert size.holds(int(ends[-1]), len(length), len(windows))
    flat = FlatBert(network, compiled=False)
    held = torch.zeros(size.lines, LONGEST, flat.words, dtype=torch.int64)
    index = torch.from_numpy(left_aligned(windows, order.lines, LONGEST).astype(np.int64))
    held[: len(length)] = words(windows.rows)[index]
    own = np.repeat(ends - length, np.diff(order.ends, prepend=0)) + windows.length[order.windows]
    read = F.pad(torch.from_numpy(own - 1), (0, size.reads - len(own)))
    lengths = F.pad(torch.from_numpy(length), (0, size.lines - len(length)))
    with torch.inference_mode():
        told = flat.read(held, lengths, torch.arange(size.tokens), read, likelihood=True).numpy()
        briefly = flat.read(held, lengths, torch.arange(size.tokens), read).numpy()
    np.testing.assert_array_equal(briefly, told[:, :-1])
    found = np.empty_like(told[: len(own)])
    found[order.windows] = told[: len(own)]
    expected = run(network, windows, torch.device("cpu"), likelihood=True)
    np.testing.assert_allclose(found[:, :-2], expected.logits, atol=1e-4)
    np.testing.assert_allclose(found[:, -2], expected.surprise, atol=1e-4)
    np.testing.assert_allclose(found[:, -1], expected.log_likelihood, rtol=1e-5, atol=1e-3)


def test_what_fills_up_a_bucket_has_a_place_in_a_network_of_few_positions(bundle: Bundle) -> None:
    few = Network(
        bundle.schema, structs.replace(bundle.network.config, window=32), bundle.statistics
    )
    assert suits(few)
    flat, size = FlatBert(few.eval(), compiled=False), Bucket(1024)
    held = torch.zeros(size.lines, LONGEST, flat.words, dtype=torch.int64)
    lengths = torch.zeros(size.lines, dtype=torch.int64)
    lengths[0] = 1
    with torch.inference_mode():
        told = flat.read(held, lengths, torch.arange(size.tokens), torch.zeros(size.reads).long())
    assert told.isfinite().all()


def test_attention_stays_within_a_window_of_any_length() -> None:
    lengths, heads, width = [1, 16, 17, 33, 64, 5], 2, 16
    begins = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    qkv = torch.randn(int(begins[-1]), 3 * heads * width)
    found = attend(qkv, begins, len(lengths), heads, LONGEST)
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        parts = (part.reshape(-1, heads, width) for part in qkv[begin:end].chunk(3, 1))
        query, key, value = (part.transpose(0, 1) for part in parts)
        own = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        torch.testing.assert_close(
            found[begin:end], own.transpose(0, 1).flatten(1), atol=1e-5, rtol=0
        )


def test_what_a_pass_reads_is_put_in_its_place() -> None:
    dice, size, longest, width, low = np.random.default_rng(0), 5, 6, 3, 7
    rows = torch.from_numpy(dice.integers(1, 1000, (40, width)))
    index = torch.from_numpy(low + dice.integers(0, 40, (4, size)).astype(np.int32))
    plan = torch.tensor([3, 1, 0]), torch.tensor([5, 4, 2]), torch.arange(100, 200)
    words, lengths = torch.zeros(4, longest, width).long(), torch.full((4,), 7)
    read = torch.full((90,), -1)
    place(rows, index, low, plan, slice(1, 3), slice(10, 90), 105, (words, lengths, read))
    assert lengths.tolist() == [4, 2, 0, 0]
    assert torch.equal(words[0, :4], rows[index[1, 1:].long() - low])
    assert torch.equal(words[1, :2], rows[index[0, 3:].long() - low])
    assert read.tolist() == [*range(5, 85), *[-1] * 10]


def test_fp8_is_refused_where_there_is_none(bundle: Bundle) -> None:
    with pytest.raises(Misconfigured, match="fp8"):
        BundleScorer(bundle, precision="fp8")


@pytest.mark.gpu
async def test_a_gpu_scores_like_a_cpu(
    bundle: Bundle, dataset: Dataset, some: np.ndarray, tmp_path: Path
) -> None:
    save(
        tmp_path,
        "b",
        bundle.members,
        bundle.fusion,
        {},
        dataset.windows.take(some[:5]),
        dataset.task[some[:5]],
    )
    scoring = BundleScorer(load(tmp_path, "cuda"))
    try:
        for count in (1, 40, len(some)):
            windows, tasks = dataset.windows.take(some[:count]), dataset.task[some[:count]]
            found = await scoring.score(windows, tasks)
            np.testing.assert_allclose(found.calibrated, score(bundle, windows, tasks), atol=0.02)
    finally:
        scoring.close()
