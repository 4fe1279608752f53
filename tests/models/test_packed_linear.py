"""Linear layers with packed weights say what the plain ones say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.packed_linear import POSSIBLE, PackedLinear, packed, rounded


def pair(inputs: int = 40, outputs: int = 24) -> tuple[nn.Linear, PackedLinear]:
    torch.manual_seed(0)
    plain = nn.Linear(inputs, outputs)
    return plain, PackedLinear(plain)


def test_this_pytorch_has_what_it_takes() -> None:
    assert POSSIBLE


@pytest.mark.parametrize("shape", [(40,), (1, 40), (64, 40), (3, 55, 40), (0, 40)])
def test_the_same_numbers_whatever_the_shape(shape: tuple[int, ...]) -> None:
    plain, quick = pair()
    inputs = torch.randn(shape)
    with torch.inference_mode():
        assert torch.allclose(quick(inputs), plain(inputs), atol=1e-6)


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    _, quick = pair()
    inputs = torch.randn(100, 40)
    with torch.inference_mode():
        assert torch.equal(quick(inputs)[:70], quick(inputs[:70]))


@pytest.mark.parametrize("rows", [64, 65, 100, 700, 2047, 2048, 2049])
def test_few_sizes_are_asked_for_and_little_is_filled(rows: int) -> None:
    assert rows <= rounded(rows) <= max(rows + 15, rows * 9 // 8)
    assert len({rounded(n) for n in range(64, 2049)}) < 40


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("learnt", [True, False])
def test_gradients_are_as_before(rows: int, learnt: bool) -> None:
    plain, quick = pair()
    plain.requires_grad_(learnt)
    found = []
    for layer in (plain, quick):
        inputs = torch.ones(2, rows // 2, 40, requires_grad=True)
        layer(inputs).square().sum().backward()
        assert inputs.grad is not None
        found.append(inputs.grad)
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert (plain.weight.grad is not None) == learnt


def test_weights_that_changed_are_packed_again() -> None:
    plain, quick = pair()
    inputs = torch.randn(100, 40)
    with torch.no_grad():
        quick(inputs)
        plain.weight.mul_(2)
        assert torch.allclose(quick(inputs), plain(inputs), atol=1e-6)


def test_a_network_keeps_its_names_and_its_other_layers() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Sequential(nn.Linear(4, 2)))
    before = network.state_dict()
    packed(network)
    assert [type(part) for part in network] == [PackedLinear, nn.GELU, nn.Sequential]
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)
