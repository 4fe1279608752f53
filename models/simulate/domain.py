"""People of any domain, from a description in TOML: who does what, how often, with which values.

`domains/` has finance and smart-home. A field is a name (`values` of them; each user has `own` ones
and keeps to them by `loyalty`), what another field's name stands for (`of`), or a number
(`between`, around what is usual `by` user or field). A scene is what happens beside everyday life:
`strange` fields take values that the user never had, `kept` ones the same all along, `times`
multiplies numbers. Scenes are anomalies unless they are `normal`. The shop has a richer simulator.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import xxhash
from msgspec import Struct, field

from models.simulate.dice import Dice
from models.simulate.world import HOUR_MS, Label, Simulated
from stream_app.core.errors import Misconfigured

DAY_MS: Final = 24 * HOUR_MS
_FOLDER: Final = Path(__file__).parent / "domains"
_OF_MAP: Final = "attributes."


class FieldOf(Struct, frozen=True, forbid_unknown_fields=True):
    """How a field of an event gets its value."""

    types: tuple[str, ...] = ()  # of event that have it; none: all
    values: int = 0  # names there are
    own: int = 0  # names that a user has
    loyalty: float = 1.0  # share of events with one of them
    of: str | None = None  # the field whose name stands for this one's
    between: tuple[float, float] | None = None  # usual numbers
    by: str | None = None  # `user`, or the field whose name has the usual number
    spread: float = 0.5  # of a number's logarithm


class Scene(Struct, frozen=True, forbid_unknown_fields=True):
    """Something out of the ordinary, within one user's history."""

    name: str
    types: tuple[str, ...]
    events: tuple[int, int]  # at least, at most
    gap_s: float
    steady: bool = False  # gaps all alike
    strange: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    times: Mapping[str, float] = field(default_factory=dict)
    normal: bool = False  # a look-alike


class Domain(Struct, frozen=True, forbid_unknown_fields=True):
    """Read from TOML."""

    schema: str
    sessions_a_day: float
    events_a_session: float
    gap_s: float
    types: Mapping[str, float]
    fields: Mapping[str, FieldOf]
    scenes: tuple[Scene, ...]


def load(name_or_path: str | Path) -> Domain:
    """A shipped domain by name, or one from a file. Raises Misconfigured."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _FOLDER / f"{name_or_path}.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Domain)
    except OSError as error:
        shipped = ", ".join(["shop", *sorted(p.stem for p in _FOLDER.glob("*.toml"))])
        raise Misconfigured(
            f"there is no domain {str(name_or_path)!r}: name one of {shipped}, or a .toml file"
        ) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path} describes no domain: {error}") from error


def simulate(
    domain: Domain,
    seed: int,
    events: int,
    *,
    span_ms: int = 7 * DAY_MS,
    start_ms: int = 1_767_225_600_000,
    anomalies: float = 0.03,
    look_alikes: float = 0.03,
) -> list[Simulated]:
    """`events` events in order of time, each with its label; shares are of events."""
    life = _Life(domain, Dice(np.random.default_rng(seed)), start_ms, span_ms)
    days = span_ms / DAY_MS
    for_each = max(1.0, domain.sessions_a_day * days * domain.events_a_session)
    users = max(20, round(events * (1 - anomalies - look_alikes) / for_each))
    found: list[Simulated] = []
    for normal, wanted in ((False, anomalies * events), (True, look_alikes * events)):
        scenes = [scene for scene in domain.scenes if scene.normal == normal]
        made = number = 0
        while scenes and made < wanted:
            campaign = f"{seed}-{number}"
            own = list(life.scene(scenes[number % len(scenes)], users, campaign))
            made, number = made + len(own), number + 1
            found += own
    user = 0
    while len(found) < events * 1.02 or user < users:
        found += life.everyday(user)
        user += 1
    found.sort(key=_at_ms)
    return [_named(one, f"{domain.schema}-{seed}-{n}") for n, one in enumerate(found[:events])]


class _Life:
    """Users and their habits, drawn when first asked for."""

    def __init__(self, domain: Domain, dice: Dice, start_ms: int, span_ms: int) -> None:
        self._domain, self._dice = domain, dice
        self._start_ms, self._span_ms = start_ms, span_ms
        self._habits: dict[tuple[int, str], list[str]] = {}
        weights = np.array(list(domain.types.values()))
        self._shares = np.cumsum(weights / weights.sum())

    def everyday(self, user: int) -> Iterator[Simulated]:
        """A user's sessions; mostly at their own hour."""
        dice, domain = self._dice, self._domain
        hour = dice.between(6, 22)
        for day in range(max(1, self._span_ms // DAY_MS)):
            for _ in range(1 + dice.geometric(max(0.0, domain.sessions_a_day - 1))):
                at_hour = hour + 2.5 * dice.normal()
                at_ms = self._start_ms + day * DAY_MS + at_hour * HOUR_MS
                for _ in range(1 + dice.geometric(domain.events_a_session - 1)):
                    at_ms += 1000 * dice.log_normal(domain.gap_s, 1.0)
                    kind = list(domain.types)[int(np.searchsorted(self._shares, dice.uniform()))]
                    if self._inside(at_ms):
                        yield self._event(user, at_ms, kind, None, {}, Label(event_id="", label=0))

    def scene(self, scene: Scene, users: int, campaign: str) -> Iterator[Simulated]:
        dice = self._dice
        user = dice.whole(0, users - 1)
        at_ms = self._start_ms + dice.between(0.15, 0.97) * self._span_ms
        kept: dict[str, str] = {}
        label = (
            Label(event_id="", label=0, look_alike=scene.name)
            if scene.normal
            else Label(event_id="", label=1, attack=scene.name, campaign=campaign, place="real")
        )
        for number in range(dice.whole(*scene.events)):
            spread = 0.02 if scene.steady else 0.8
            at_ms += 1000 * dice.log_normal(scene.gap_s, spread)
            kind = scene.types[number % len(scene.types)]
            if self._inside(at_ms):
                yield self._event(user, at_ms, kind, scene, kept, label)

    def _inside(self, at_ms: float) -> bool:
        return self._start_ms <= at_ms < self._start_ms + self._span_ms

    def _event(
        self,
        user: int,
        at_ms: float,
        kind: str,
        scene: Scene | None,
        kept: dict[str, str],
        label: Label,
    ) -> Simulated:
        event: dict[str, object] = {
            "event_id": "",
            "user_id": f"u{user}",
            "type": kind,
            "event_time": int(at_ms),
        }
        names: dict[str, str] = {"user": f"u{user}"}
        attributes: dict[str, object] = {}
        for name, how in self._domain.fields.items():
            if how.types and kind not in how.types:
                continue
            value = self._value(user, name, how, names, scene, kept)
            if value is not None and name.startswith(_OF_MAP):
                attributes[name.removeprefix(_OF_MAP)] = value
            elif value is not None:
                event[name] = value
        if attributes:
            event["attributes"] = attributes
        return Simulated(event, label)

    def _value(
        self,
        user: int,
        name: str,
        how: FieldOf,
        names: dict[str, str],
        scene: Scene | None,
        kept: dict[str, str],
    ) -> str | float | None:
        if how.between is not None:
            low, high = how.between
            lot = _lot(f"{name} of {names.get(how.by or '', '')}")
            times = scene.times.get(name, 1.0) if scene else 1.0
            usual = low * (high / low) ** lot
            return round(self._dice.log_normal(usual * times, how.spread), 2)
        if how.of is not None:
            if how.of not in names:
                return None
            found = f"{_short(name)}-{int(_lot(names[how.of]) * how.values)}"
        elif scene and name in scene.kept and name in kept:
            found = kept[name]
        elif scene and name in scene.strange:
            # One stranger comes with one device; but goes to many places.
            found = kept.get(name, "") if how.own <= 3 else ""
            found = found or self._any(name, how)
        elif self._dice.chance(how.loyalty):
            found = self._dice.pick(self._own(user, name, how))
        else:
            found = self._any(name, how)
        names[name] = kept[name] = found
        return found

    def _own(self, user: int, name: str, how: FieldOf) -> list[str]:
        if (user, name) not in self._habits:
            self._habits[user, name] = [self._any(name, how) for _ in range(max(1, how.own))]
        return self._habits[user, name]

    def _any(self, name: str, how: FieldOf) -> str:
        return f"{_short(name)}-{self._dice.whole(0, how.values - 1)}"


def _at_ms(one: Simulated) -> int:
    at_ms = one.event["event_time"]
    assert isinstance(at_ms, int)
    return at_ms


def _named(one: Simulated, event_id: str) -> Simulated:
    event = {**one.event, "event_id": event_id}
    return Simulated(event, msgspec.structs.replace(one.label, event_id=event_id))


def _short(name: str) -> str:
    return name.removeprefix(_OF_MAP).removesuffix("_id")


def _lot(text: str) -> float:
    """From [0, 1), always the same for the same text."""
    return xxhash.xxh3_64_intdigest(text.encode()) / 2**64
