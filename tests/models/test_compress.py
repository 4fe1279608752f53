"""A smaller bundle is a bundle as any other, and says what it costs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from models import bundle as bundles
from models.bundle import Bundle
from models.compress import align
from models.compress.agreement import agreement
from models.compress.int8 import Int8Linear, quantised
from models.compress.run import JSON, MARKDOWN, Compressed, Wanted, compress
from models.dataset import Dataset
from models.inference import run
from models.reasons import Explainer
from models.training import TrainReport
from models.training.warm_start import load_start
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(
    trained: TrainReport, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Compressed]:
    out = tmp_path_factory.mktemp("compressed") / "int8"
    wanted = Wanted(rounds=1)
    return out, compress(trained.folder, files.data, [files.labels], out, wanted)


def test_a_row_of_an_int8_layer_is_the_same_alone_and_beside_large_ones() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(64, 48)
    weight, bias = torch.randn(48, 64), torch.randn(48)
    layer.fill(weight, bias)
    rows = torch.randn(512, 64)
    loud = rows.clone()
    loud[1:] *= 1_000
    alone = layer(rows[:1])
    assert torch.equal(layer(rows)[:1], alone)
    assert torch.equal(layer(loud)[:1], alone)
    exact = F.linear(rows, weight, bias)
    assert (layer(rows) - exact).abs().max() < 0.05 * exact.std()
    assert torch.equal(layer(torch.zeros(2, 64)), bias.expand(2, -1))


def test_a_score_is_the_same_in_a_batch_of_1_and_of_512(bundle: Bundle, dataset: Dataset) -> None:
    network = quantised(bundle.network)
    events = np.arange(512)
    together = run(network, dataset.windows.take(events), CPU).logits
    some = range(0, 512, 16)
    alone = [run(network, dataset.windows.take(events[at : at + 1]), CPU).logits[0] for at in some]
    # Floating sums around the layers may end in another last bit, which may round one number of
    # thousands the other way; one scale for a batch would show in the second digit.
    np.testing.assert_allclose(np.stack(alone), together[:512:16], atol=2e-3)
    assert not np.allclose(together, run(bundle.network, dataset.windows.take(events), CPU).logits)


def test_what_comes_out_loads_and_scores_like_what_went_in(
    small: tuple[Path, Compressed], bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    out, told = small
    loaded = bundles.load(out, "cpu")
    assert loaded.version == told.version
    assert told.before == bundle.version
    assert loaded.network.config.weights == "int8"
    held = {k: v.dtype for k, v in loaded.network.state_dict().items()}
    assert held["bert.encoder.layer.0.intermediate.dense.weight"] == torch.int8
    assert held["heads.click.weight"] == torch.float32
    windows, tasks = dataset.windows.take(some), dataset.task[some]
    off = np.abs(bundles.score(loaded, windows, tasks) - bundles.score(bundle, windows, tasks))
    assert 0 < off.max() < 0.1
    assert loaded.calibration.thresholds == bundle.calibration.thresholds
    assert not [p for p in out.rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".bin")]


def test_the_table_tells_sizes_speeds_and_agreement(
    small: tuple[Path, Compressed], dataset: Dataset
) -> None:
    out, told = small
    assert told.sizes[1] < 0.5 * told.sizes[0]
    assert 0 < told.agreement.events < len(dataset)
    assert told.agreement.anomalies > 0
    assert told.agreement.auc is not None
    assert told.speed.ratio.least <= told.speed.ratio.median <= told.speed.ratio.most
    assert told.members == {"bert": "int8"}
    assert msgspec.json.decode((out / JSON).read_bytes(), type=Compressed) == told
    text = (out / MARKDOWN).read_text()
    assert "| decisions changed |" in text
    assert "| size on disk |" in text
    assert told.version in text


def test_reasons_are_told_of_int8_too(bundle: Bundle, dataset: Dataset) -> None:
    anomalous = np.flatnonzero(dataset.anomalous)[:6]
    network = quantised(bundle.network)
    told = Explainer(network, network.statistics, CPU).explain(
        dataset.windows.take(anomalous), dataset.task[anomalous].tolist()
    )
    before = Explainer(bundle.network, bundle.statistics, CPU).explain(
        dataset.windows.take(anomalous), dataset.task[anomalous].tolist()
    )
    assert [r[0].field for r in told] == [r[0].field for r in before]


def test_what_is_compressed_is_neither_compressed_again_nor_trained(
    small: tuple[Path, Compressed], files: Files, bundle: Bundle, tmp_path: Path
) -> None:
    out, _ = small
    with pytest.raises(Misconfigured, match="compressed already"):
        compress(out, files.data, [], tmp_path / "again", Wanted())
    with pytest.raises(Misconfigured, match="int8 weights"):
        load_start(out, bundle.schema, "bert", "causal", 64)


def test_agreement_counts_decisions_that_changed() -> None:
    before, after = np.array([0.1, 0.6, 0.7, 0.2]), np.array([0.1, 0.4, 0.8, 0.2])
    limits = np.full(4, 0.5)
    found = agreement(before, after, limits, limits, np.array([False, True, True, False]))
    assert found.changed == 0.25
    assert found.alarmed == (0.5, 0.25)
    assert found.largest_difference == pytest.approx(0.2)
    assert found.auc == (1.0, 1.0)
    assert found.ap == (1.0, 1.0)
    assert agreement(before, after, limits, limits, np.zeros(4, bool)).auc is None


def test_scores_on_another_scale_are_put_back() -> None:
    rng = np.random.default_rng(0)
    before, tasks = rng.normal(size=400).astype(np.float32), np.arange(400) % 2
    after = (before * np.where(tasks, 0.5, 2.0) + tasks).astype(np.float32)
    found = align.lines(before, after, tasks, 2)
    np.testing.assert_allclose(found, [(0.5, 0.0), (2.0, -2.0)], atol=1e-5)
    assert align.lines(before, -before, tasks, 2)[0] == (1.0, 0.0)  # never turned round


def test_the_command_refuses_its_own_folder_and_a_calibration_without_labels(
    trained: TrainReport, files: Files, tmp_path: Path
) -> None:
    asked = ["compress", "--model", str(trained.folder), "--on", str(files.data)]
    found = CliRunner().invoke(app, [*asked, "--out", str(trained.folder)])
    assert found.exit_code == 2
    assert "another folder" in found.output
    found = CliRunner().invoke(app, [*asked, "--out", str(tmp_path), "--method", "platt"])
    assert found.exit_code == 2
    assert "--labels" in found.output
