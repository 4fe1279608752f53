"""Ranges that may be tuned: what is usual lies in them, and is what stands without tuning."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from models.baselines.boosting import Growth
from models.baselines.networks import Twin
from models.baselines.space import SPACES
from models.baselines.stack import Stack
from models.baselines.unlabelled import SHAPES
from models.baselines.velocity import Velocity
from models.encoders import PRESETS, NetworkConfig
from models.training import Options, Recipe
from models.tune.space import TRAINING, Space, usual


def defaults(made: Callable[..., Any]) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(made).parameters.items()}


NETWORK = {"dropout": NetworkConfig(size=PRESETS["tiny"]).dropout}
CONSTRUCTED: dict[str, dict[str, Any]] = {
    "velocity": defaults(Velocity),
    **{name: defaults(shape) for name, shape in SHAPES.items()},
    "boosted-own": structs.asdict(Growth()),
    "boosted": structs.asdict(Growth()),
    "stack": structs.asdict(Growth()) | defaults(Stack),
    "stack-encoder": structs.asdict(Growth()) | defaults(Stack),
    "gru": structs.asdict(Recipe()) | defaults(Twin),
    "train": structs.asdict(Recipe()) | NETWORK,
}


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_what_is_usual_is_what_is_made_without_settings(name: str) -> None:
    space: Space = SPACES.get(name, TRAINING)
    assert usual(space) == {key: CONSTRUCTED[name][key] for key in space}
    for one in space.values():
        assert one.low <= one.usual <= one.high


def test_what_a_training_is_asked_is_what_its_ranges_say() -> None:
    options = Options()
    assert options.but(usual(TRAINING)).recipe(1000, 128, warm=False) == options.recipe(
        1000, 128, warm=False
    )
