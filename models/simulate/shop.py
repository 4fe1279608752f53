"""A shop's feed, honest and attacked, as one stream of labelled events in order of arrival.

The same seed gives the same stream.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from models.simulate.config import SimulationConfig
from models.simulate.dice import Dice
from models.simulate.feed import Feed
from models.simulate.style import STYLES, Habits, ShopStyle
from models.simulate.world import HOUR_MS, Difficulty, Label, Simulated

__all__ = ["Label", "Simulated", "SimulationConfig", "live", "save", "simulate", "write"]


def simulate(config: SimulationConfig) -> Iterator[Simulated]:
    """`config.events` events in order of arrival, each with its label."""
    feed = _late(Feed(config), config) if config.late_share else iter(Feed(config))
    return itertools.islice(feed, config.events)


def live(
    seed: int,
    rate: float,
    start_ms: int,
    *,
    style: ShopStyle | None = None,
    attack_share: float = 0.04,
    difficulties: tuple[Difficulty, ...] = ("easy", "easy", "medium", "medium", "hard"),
) -> Iterator[Simulated]:
    """A feed without end for a demonstration: about `rate` events in a second of event time.

    Begins in the middle of things: thousands of people at a human pace, attacks from the first
    seconds on. The caller waits until an event's time has come.
    """
    hour = int(rate * 3_600)
    config = SimulationConfig(
        seed=seed,
        events=hour,
        span_ms=HOUR_MS,
        start_ms=start_ms,
        users=max(500, int(rate * 150)),
        items=max(2_000, int(rate * 200)),
        attack_share=attack_share,
        difficulties=difficulties,
        style=style or STYLES["full"],
        habits=Habits(),
        flat=True,
        opening=True,
    )
    return iter(Feed(config))


def write(config: SimulationConfig, events_path: Path, labels_path: Path) -> None:
    """Simulate, and `save`."""
    save(simulate(config), events_path, labels_path)


def save(made: Iterable[Simulated], events_path: Path, labels_path: Path) -> None:
    """Write events and labels as JSON lines; line n of both is the same event."""
    encode = msgspec.json.Encoder().encode
    with events_path.open("wb") as events, labels_path.open("wb") as labels:
        for simulated in made:
            events.write(encode(simulated.event) + b"\n")
            labels.write(encode(simulated.label) + b"\n")


def _late(feed: Feed, config: SimulationConfig) -> Iterator[Simulated]:
    """Some events arrive after later ones, mostly by seconds, always by less than 10 min."""
    dice = Dice(np.random.default_rng((config.seed, 1)))
    waiting: list[tuple[float, int, Simulated]] = []
    for order, simulated in enumerate(feed):
        at = simulated.event["event_time"]
        assert isinstance(at, int)
        delay_ms = 0.0
        if dice.chance(config.late_share):
            delay_ms = min(dice.log_normal(15_000, 1.2), 590_000)
        heapq.heappush(waiting, (at + delay_ms, order, simulated))
        while waiting and waiting[0][0] <= at:
            yield heapq.heappop(waiting)[2]
