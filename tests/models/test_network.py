"""No look ahead, and a score that does not depend on what else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.bundle import Bundle
from models.dataset import Dataset
from models.encoders import Attention, Kind
from models.features import Columns, columns
from models.inference import run
from models.network import PRESETS, Network, NetworkConfig
from models.packing import left_aligned, passes, sound
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Windows

CPU = torch.device("cpu")


KINDS: list[tuple[Kind, Attention]] = [
    ("bert", "causal"),
    ("bert", "bidirectional"),
    ("gpt", "causal"),
    ("gru", "causal"),
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def network(request: pytest.FixtureRequest, bundle: Bundle) -> Network:
    torch.manual_seed(0)
    encoder, attention = request.param
    config = NetworkConfig(size=PRESETS["tiny"], encoder=encoder, attention=attention)
    return Network(bundle.schema, config, bundle.statistics).eval().requires_grad_(False)


def one_by_one(network: Network, windows: Windows) -> np.ndarray:
    """What a first version would do: each window alone, filled up to 64 events."""
    found = []
    for window in range(len(windows)):
        index = left_aligned(windows, np.array([window]), 64)
        held = columns(network.schema, windows.rows[index[0]])
        length = torch.from_numpy(windows.length[[window]])
        hidden, _ = network(Columns(*(c[None] for c in held)), length)
        last = int(length) - 1
        found.append(network.logits(hidden.states[:, last], hidden.own[:, last]).numpy())
    return np.concatenate(found)


def test_packed_passes_score_as_windows_one_by_one(
    network: Network, dataset: Dataset, some: np.ndarray
) -> None:
    windows = dataset.windows.take(some[:60])
    packed = run(network, windows, CPU)
    np.testing.assert_allclose(packed.logits, one_by_one(network, windows), atol=1e-5)
    assert np.isfinite(packed.surprise).all()


def test_neighbours_and_budgets_do_not_change_a_score(
    network: Network, dataset: Dataset, some: np.ndarray
) -> None:
    together = run(network, dataset.windows.take(some), CPU)
    for budget in (1, 100, 100_000):
        few = run(network, dataset.windows.take(some[20:60]), CPU, budget)
        np.testing.assert_allclose(few.logits, together.logits[20:60], atol=1e-5)
        np.testing.assert_allclose(few.surprise, together.surprise[20:60], atol=1e-4)


def test_reading_few_states_gives_those_of_reading_all(network: Network) -> None:
    tokens = torch.randn(3, 40, 128, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([40, 17, 1])
    line, place = torch.tensor([0, 0, 1, 2]), torch.tensor([3, 39, 16, 0])
    whole = network.encode(tokens, lengths)[line, place]
    torch.testing.assert_close(network.encode_at(tokens, lengths, line, place), whole)


def test_an_encoder_that_only_reads_forward_is_refused_as_a_bidirectional_one() -> None:
    for kind in ("gpt", "gru"):
        with pytest.raises(Misconfigured, match="reads forward only"):
            NetworkConfig(size=PRESETS["tiny"], encoder=kind, attention="bidirectional").check()


def test_later_rows_change_no_earlier_state(network: Network, dataset: Dataset) -> None:
    if network.config.attention == "bidirectional":
        pytest.skip("it reads backward too: it is given as-of windows alone")
    longest = int(np.argmax(dataset.windows.length))
    length = int(dataset.windows.length[longest])
    index = left_aligned(dataset.windows, np.array([longest]), length)[0]
    held = columns(network.schema, dataset.windows.rows[index])
    window = Columns(*(c[None] for c in held))
    cut = length // 2
    changed = Columns(*(c.clone() for c in window))
    changed.at_ms[:, cut:] += 86_000
    changed.type[:, cut:] = 6
    changed.hashes[:, cut:] += 1
    changed.values[:, cut:] = 0.5
    ours, described = network(window, torch.tensor([length]))
    theirs, _ = network(changed, torch.tensor([length]))
    torch.testing.assert_close(ours.states[:, :cut], theirs.states[:, :cut], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.own[:, :cut], theirs.own[:, :cut], rtol=0, atol=1e-5)
    assert (ours.states[:, cut:] - theirs.states[:, cut:]).abs().max() > 0.01
    assert described.shape[:2] == (1, length)


def test_names_of_things_do_not_matter_only_which_are_the_same(
    bundle: Bundle, dataset: Dataset, some: np.ndarray
) -> None:
    """Another shop's ids: other hashes, the same equalities, about the same scores."""
    windows = dataset.windows.take(some)
    rows = windows.rows.copy()
    for name in ("item", "category"):
        rows[name] = np.where(rows[name] > 0, rows[name] ^ 0x5BD1E995, 0)
    ours = run(bundle.network, windows, CPU).logits
    theirs = run(bundle.network, Windows(rows, windows.index, windows.length), CPU).logits
    assert np.corrcoef(ours[:, 0], theirs[:, 0])[0, 1] > 0.9


def test_windows_that_begin_alike_share_a_pass(dataset: Dataset) -> None:
    user = np.flatnonzero(dataset.user == 0)
    found = list(passes(dataset.windows.take(user), 4096, shared=True))
    assert len(found) == 1
    assert len(found[0].index) == 1
    assert sorted(found[0].place.tolist()) == list(range(len(user)))


def test_only_windows_with_the_same_rows_share_a_pass() -> None:
    rows = np.zeros(4, [("type", "u1")])
    index = np.array([[0, 0, 0, 1], [0, 0, 2, 1], [0, 0, 1, 2], [0, 0, 1, 3]])
    windows = Windows(rows, index, np.array([2, 2, 3, 3]))
    lines = [tuple(line) for one in passes(windows, 99, shared=True) for line in one.index]
    assert sorted(lines) == [(0, 1, 2), (0, 1, 3), (2, 1, 1)]


def test_windows_out_of_bounds_are_found_before_they_reach_a_device(
    dataset: Dataset, some: np.ndarray
) -> None:
    windows = dataset.windows.take(some[:5])
    windows.index[1, -1] = len(windows.rows)
    windows.length[2] = 65
    windows.length[3] = 0
    assert sound(windows, types=6, longest=64).tolist() == [True, False, False, False, True]
