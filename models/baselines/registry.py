"""Baselines by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from models.baselines.boosting import Boosted, Growth
from models.baselines.detector import Detector
from models.baselines.space import SPACES
from models.baselines.stack import Stack
from models.baselines.unlabelled import SHAPES, Unlabelled
from models.baselines.velocity import Velocity
from models.counters.aggregates import Memory
from models.schema import Schema
from models.tune.space import Range
from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from models.bundle import Bundle

NAMES: Final = ("velocity", *SHAPES, "boosted-own", "boosted", "stack")
OF_SCHEMA: Final = ("gru", "random-encoder")  # networks; they need the schema
OF_BUNDLE: Final = ("surprise", "stack-encoder")  # they ask a bundle

_MEMORY: Final = Memory()  # aggregates live as long as their data set, whoever asked first


class _Given(Struct):
    seed: int
    threads: int
    settings: Mapping[str, Any]
    schema: Schema | None
    bundle: Bundle | None


def detectors(
    names: Iterable[str] = NAMES,
    seed: int = 0,
    threads: int = 1,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    schema: Schema | None = None,
    bundle: Bundle | None = None,
) -> list[Detector]:
    """Fresh detectors, not fitted. `settings` by name, such as `space.SPACES` has.

    Raises Misconfigured if a name or a setting is unknown, or what a baseline needs is not given.
    """
    known = settings or {}
    found = []
    for name in names:
        if name not in _MADE:
            raise Misconfigured(f"there is no baseline {name!r}: choose {', '.join(_MADE)}")
        own = known.get(name, {})
        for key in own:
            if key not in SPACES[name]:
                offered = ", ".join(SPACES[name]) or "nothing"
                raise Misconfigured(f"{name} has no setting {key!r}: it has {offered}")
            if wrong := _wrong(own[key], SPACES[name][key]):
                raise Misconfigured(f"the setting {key} of {name} is {own[key]!r}: {wrong}")
        found.append(_MADE[name](name, _Given(seed, threads, own, schema, bundle)))
    return found


def _wrong(value: Any, usual: Range) -> str:
    """What a setting must be, if it is not that. Its range is only where it is searched for."""
    if usual.whole and type(value) is not int:
        return "it must be a whole number"
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        return "it must be a number, not below 0"
    return "it must be above 0" if value == 0 < usual.low else ""


def _velocity(name: str, given: _Given) -> Detector:
    return Velocity(**given.settings)


def _unlabelled(name: str, given: _Given) -> Detector:
    return Unlabelled(name, _MEMORY, given.seed, given.threads, **given.settings)


def _boosted(name: str, given: _Given) -> Detector:
    growth = Growth(**given.settings)
    own_only = name == "boosted-own"
    return Boosted(_MEMORY, given.seed, given.threads, own_only=own_only, growth=growth)


def _stack(name: str, given: _Given) -> Detector:
    growth = {key: value for key, value in given.settings.items() if key != "looks"}
    made: dict[str, Any] = {"growth": Growth(**growth), "name": name}
    if "looks" in given.settings:
        made["looks"] = given.settings["looks"]
    if name == "stack-encoder":
        from models.baselines.surprise import asked

        bundle = _bundle(name, given)
        made["more"] = lambda data: asked(bundle, data)
    return Stack(_MEMORY, given.seed, given.threads, **made)


def _surprise(name: str, given: _Given) -> Detector:
    from models.baselines.surprise import Surprise

    return Surprise(_bundle(name, given))


def _twin(name: str, given: _Given) -> Detector:
    from models.baselines.networks import Twin

    return Twin(_schema(name, given), given.seed, **given.settings)


def _random(name: str, given: _Given) -> Detector:
    from models.baselines.networks import RandomEncoder

    return RandomEncoder(_schema(name, given), given.seed)


def _bundle(name: str, given: _Given) -> Bundle:
    if given.bundle is None:
        raise Misconfigured(f"{name} asks a bundle: give one")
    return given.bundle


def _schema(name: str, given: _Given) -> Schema:
    if given.schema is None:
        raise Misconfigured(f"{name} is a network: give the schema of the events")
    return given.schema


_MADE: Final[dict[str, Callable[[str, _Given], Detector]]] = {
    "velocity": _velocity,
    **dict.fromkeys(SHAPES, _unlabelled),
    "boosted-own": _boosted,
    "boosted": _boosted,
    "stack": _stack,
    "gru": _twin,
    "random-encoder": _random,
    "surprise": _surprise,
    "stack-encoder": _stack,
}
