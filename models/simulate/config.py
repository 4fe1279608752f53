"""What to simulate: how much, in which time, by whom, and which attacks."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from models.simulate.attacks import FAMILIES
from models.simulate.look_alikes import LOOK_ALIKES
from models.simulate.style import Habits, ShopStyle
from models.simulate.world import DIFFICULTIES, HOUR_MS, Difficulty
from stream_app.core.errors import Misconfigured

WEEK_MS: Final = 7 * 24 * HOUR_MS


class SimulationConfig(Struct, frozen=True, kw_only=True):
    """What to simulate."""

    seed: int = 1
    events: int = 100_000  # in all; with `span_ms` it sets the pace
    span_ms: int = WEEK_MS  # event time that they take, about
    start_ms: int = 1_767_225_600_000  # epoch ms of the first event: 2026-01-01
    users: int | None = None  # regulars; one for 40 events if not given
    items: int | None = None  # in the catalogue; drawn if not given
    newcomers: float = 0.08  # share of sessions by people never seen before
    attack_share: float = 0.03  # of events
    look_alike_share: float = 0.03  # of events
    families: tuple[str, ...] = tuple(FAMILIES)
    difficulties: tuple[Difficulty, ...] = DIFFICULTIES
    look_alikes: tuple[str, ...] = tuple(LOOK_ALIKES)
    style: ShopStyle | None = None  # drawn if not given
    habits: Habits | None = None  # drawn if not given
    late_share: float = 0.0  # of events that arrive after later ones, up to 10 min
    flat: bool = False  # the same traffic at every hour
    opening: bool = False  # begin with fast campaigns, for those who watch

    def check(self) -> None:
        """Raises Misconfigured if a name is unknown or a number makes no sense."""
        for kind, names, known in (
            ("family", self.families, FAMILIES),
            ("difficulty", self.difficulties, DIFFICULTIES),
            ("look-alike", self.look_alikes, LOOK_ALIKES),
        ):
            for name in names:
                if name not in known:
                    raise Misconfigured(f"no {kind} {name!r}; there are {', '.join(known)}")
        if self.events < 1 or self.span_ms < 1:
            raise Misconfigured("events and span_ms must be at least 1")
        if not 0.0 <= self.attack_share + self.look_alike_share < 1.0:
            raise Misconfigured("attack_share and look_alike_share must leave room for others")
