"""Fewer heads and neurons, or a pupil: still a bundle, and close to what it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from models import bundle as bundles
from models.bundle import Bundle
from models.calibration import Line
from models.compress import align
from models.compress.prune import Importance, importance, pruned
from models.compress.run import Wanted, compress
from models.compress.smaller import Way, parse_size, smaller
from models.dataset import Dataset
from models.encoders import NetworkConfig, Size
from models.fusion import Fusion
from models.inference import run
from models.members import Members
from models.network import Network
from models.training import TrainReport
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files

CPU = torch.device("cpu")


@pytest.fixture
def lame(bundle: Bundle) -> Network:
    """A network of which half does nothing: head 0 of each layer, every other neuron."""
    network = Network(bundle.schema, bundle.network.config, bundle.statistics)
    state = {key: value.clone() for key, value in bundle.network.state_dict().items()}
    for layer in range(2):
        prefix = f"bert.encoder.layer.{layer}"
        state[f"{prefix}.attention.output.dense.weight"][:, :64] = 0
        state[f"{prefix}.output.dense.weight"][:, ::2] = 0
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def test_what_does_nothing_is_what_goes(lame: Network, dataset: Dataset, some: np.ndarray) -> None:
    found = importance(lame, dataset, some[:60])
    assert (found.heads[:, 0] == 0).all()
    assert (found.heads[:, 1] > 0).all()
    small = pruned(lame, found, 0.5)
    assert small.config.size == Size(128, 2, 1, 256, 64)
    windows = dataset.windows.take(some)
    was, is_ = (run(network, windows, CPU) for network in (lame, small))
    np.testing.assert_allclose(is_.logits, was.logits, atol=1e-4)
    np.testing.assert_allclose(is_.surprise, was.surprise, rtol=1e-4)


def test_heads_that_do_not_divide_what_is_hidden_are_a_bert_too(
    bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    config = NetworkConfig(size=Size(128, 1, 4))
    network = Network(bundle.schema, config, bundle.statistics).eval().requires_grad_(False)
    found = Importance(torch.tensor([[3.0, 1.0, 2.0, 4.0]]), torch.rand(1, 512))
    small = pruned(network, found, 0.75)
    assert small.config.size.heads == 3
    kept = small.encoder.encoder.layer[0].attention.self.query.weight
    whole = network.encoder.encoder.layer[0].attention.self.query.weight
    assert torch.equal(kept, torch.cat([whole[:32], whole[64:]]))
    assert np.isfinite(run(small, dataset.windows.take(some), CPU).logits).all()


@pytest.mark.parametrize(
    "way",
    [
        Way(how="prune", keep=0.5, epochs=1),
        Way(how="distil", size=Size(32, 1, 2), epochs=3),
    ],
    ids=lambda way: way.how,
)
def test_a_smaller_network_says_nearly_the_same(
    way: Way, trained: TrainReport, files: Files, bundle: Bundle, tmp_path: Path
) -> None:
    wanted = Wanted(way=way, rounds=1)
    told = compress(trained.folder, files.data, [files.labels], tmp_path, wanted)
    loaded = bundles.load(tmp_path, "cpu")
    assert loaded.version == told.version
    assert loaded.network.config.weights == "float32"
    assert told.sizes[1] < 0.8 * told.sizes[0]
    assert told.agreement.auc is not None
    assert told.agreement.auc[1] > told.agreement.auc[0] - 0.05
    assert told.agreement.changed < 0.1
    assert loaded.calibration.thresholds == bundle.calibration.thresholds


def test_a_gru_has_no_heads_and_a_tiny_network_is_not_replaced_by_a_larger_one(
    bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    config = NetworkConfig(size=Size(32, 1, 1), encoder="gru")
    gru = Network(bundle.schema, config, bundle.statistics).eval()
    with pytest.raises(Misconfigured, match="only a BERT has heads"):
        smaller(Members({"gru": gru}), dataset, some, some, Way(how="prune"))
    large = Way(how="distil", size=Size(256, 4, 4))
    with pytest.raises(Misconfigured, match="is not larger"):
        smaller(bundle.members, dataset, some, some, large)
    both = Members({"bert": bundle.network, "gru": gru})
    made = smaller(both, dataset, some, some, Way(how="int8"))
    assert made.said == {"bert": "int8", "gru": "int8, but for its recurrence"}
    np.testing.assert_allclose(
        run(made.networks["gru"], dataset.windows.take(some), CPU).logits,
        run(gru, dataset.windows.take(some), CPU).logits,
        atol=0.02,
    )


def test_aligned_scores_go_through_the_old_scale(bundle: Bundle) -> None:
    count = len(bundle.schema.task_names)
    scale = (Line(0.5, 1.0, 3, 9),) * count
    fusion = Fusion({"bert": scale}, dict(bundle.fusion.finals))
    moved = {"bert": ((2.0, -4.0),) * count}
    _, found = align.replaced(bundle.members, fusion, {"bert": bundle.network}, moved)
    assert found.scales["bert"] == (Line(1.0, -1.0, 3, 9),) * count
    assert found.finals == fusion.finals


def test_sizes_are_a_preset_or_three_numbers() -> None:
    assert parse_size("64x2x2") == Size(64, 2, 2)
    assert parse_size("tiny") == Size(128, 2, 2)
    for wrong in ("64x2", "big", "64x2x3", "0x1x1"):
        with pytest.raises(Misconfigured, match="no size"):
            parse_size(wrong)


def test_a_share_of_nothing_is_refused(trained: TrainReport, files: Files, tmp_path: Path) -> None:
    wanted = structs.replace(Wanted(), way=Way(how="prune", keep=0.0))
    with pytest.raises(Misconfigured, match="share"):
        compress(trained.folder, files.data, [], tmp_path, wanted)
