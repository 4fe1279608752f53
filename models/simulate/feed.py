"""All that goes on in one shop, merged by event time: sessions, campaigns, look-alikes.

Lazy: only what runs at the time is in memory. Each tick the quotas say what must begin next.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
from msgspec import Struct

from models.simulate.campaign import SPREAD_H, campaign, draw_place
from models.simulate.config import WEEK_MS, SimulationConfig
from models.simulate.dice import Dice
from models.simulate.look_alikes import look_alike
from models.simulate.quota import Quota
from models.simulate.site import Site
from models.simulate.style import draw_habits, draw_style
from models.simulate.world import HOUR_MS, Difficulty, Label, Person, Simulated, Step

_WARM_MS: Final = 30 * 60_000  # sessions that are under way when the feed begins
_WARM_EVENTS: Final = 120_000  # at most
_OPENING: Final[tuple[Difficulty, ...]] = ("medium", "easy", "medium", "easy", "medium")
_OPENING_MS: Final = 5_000  # in which they all begin
_FAST: Final = ("click_fraud", "scraping", "cart_hoarding", "ride_along")


class _Mark(Struct, frozen=True):
    """What the labels of a script's events have in common."""

    attack: str | None = None
    difficulty: Difficulty | None = None
    campaign: str | None = None
    place: str | None = None
    look_alike: str | None = None


_HONEST: Final = _Mark()


class _Running(Struct, gc=False):
    """A script that is being acted out; the next act is the last of `acts`."""

    person: Person
    acts: list[tuple[float, Step]]
    mark: _Mark


class Feed:
    """All that goes on in one shop, merged by time."""

    def __init__(self, config: SimulationConfig) -> None:
        rng = np.random.default_rng(config.seed)
        self._dice = dice = Dice(rng.spawn(1)[0])
        config.check()
        self._config = config
        style = config.style or draw_style(dice)
        habits = config.habits or draw_habits(dice)
        drawn = int(dice.log_between(0.1, 3.0) * config.events)
        items = config.items or min(max(drawn, 2_000), 300_000)
        self.site = Site(
            rng.spawn(1)[0],
            style,
            habits,
            users=config.users or max(60, config.events // 40),
            items=items,
            categories=max(8, min(2_000, items // dice.whole(30, 150))),
            flat=config.flat,
        )
        self._per_ms = config.events / config.span_ms  # mean, all kinds
        self._pace = min(1.0, config.span_ms / WEEK_MS)  # how far campaigns are spread
        horizon_ms = 10_000.0 if config.opening else config.span_ms * 0.015
        self._attacks = Quota(config.attack_share, config.start_ms, horizon_ms)
        self._look_alikes = Quota(config.look_alike_share, config.start_ms, horizon_ms)
        self._horizon_ms = horizon_ms
        self._tick_ms = horizon_ms / 4.0
        self._heap: list[tuple[float, int, _Running]] = []
        self._returns: list[tuple[float, int, Person]] = []
        self._order = itertools.count()
        self._campaigns = itertools.count(1)
        self._scheduled: Counter[tuple[str, str]] = Counter()  # attack events by family, difficulty
        self._sessions, self._session_events = 30.0, 30.0 * self._mean_session()
        self._acted: Counter[str] = Counter()  # look-alike events by kind
        self._emitted = 0
        self._opening = list(_OPENING) if config.opening else []

    def __iter__(self) -> Iterator[Simulated]:
        config, site, heap = self._config, self.site, self._heap
        start_ms = float(config.start_ms)
        warm_ms = min(float(_WARM_MS), _WARM_EVENTS / self._per_ms)
        arrival_ms = start_ms - warm_ms
        tick_ms = start_ms
        while True:
            if tick_ms <= arrival_ms and (not heap or tick_ms <= heap[0][0]):
                self._plan(tick_ms)
                tick_ms += self._tick_ms
            elif not heap or arrival_ms <= heap[0][0]:
                self._open_session(arrival_ms)
                arrival_ms += self._until_next_session_ms(arrival_ms)
            else:
                at_ms, order, running = heap[0]
                _, step = running.acts.pop()
                if running.acts:
                    heapq.heapreplace(heap, (running.acts[-1][0], order, running))
                else:
                    heapq.heappop(heap)
                if at_ms < start_ms:
                    continue
                self._emitted += 1
                event_id = f"{config.seed}-{self._emitted}"
                yield Simulated(
                    site.event(event_id, running.person, at_ms, step),
                    _label(event_id, running.mark),
                )

    # -- honest sessions --------------------------------------------------------------------

    def _mean_session(self) -> float:
        """Acts in a session, by trying some with people who never come."""
        site = self.site
        return sum(len(site.session(site.newcomer())) for _ in range(200)) / 200.0

    def _until_next_session_ms(self, now_ms: float) -> float:
        """Poisson, at a rate that follows the hour and makes up the honest share of events."""
        config, site = self._config, self.site
        honest = 1.0 - config.attack_share - config.look_alike_share
        sessions_per_ms = self._per_ms * honest * self._sessions / self._session_events
        mean_ms = 1.0 / sessions_per_ms
        at_ms = now_ms
        while True:  # thinning
            at_ms += self._dice.exponential(mean_ms * site.mean_bustle)
            if self._dice.chance(site.bustle(at_ms)):
                return at_ms - now_ms

    def _open_session(self, at_ms: float) -> None:
        dice, site, returns = self._dice, self.site, self._returns
        person: Person | None = None
        if returns and returns[0][0] <= at_ms and dice.chance(site.habits.returns):
            person = heapq.heappop(returns)[2]
            if person.busy_until_ms > at_ms:
                person = None
        if person is None:
            person = site.visitor(at_ms, self._config.newcomers)
        acts: list[tuple[float, Step]] = []
        first_ms = at_ms
        for gap_ms, step in site.session(person):
            at_ms = at_ms + gap_ms if acts else at_ms
            acts.append((at_ms, step))
        self._sessions += 1.0
        self._session_events += len(acts)
        person.busy_until_ms = at_ms + 60_000.0
        if len(returns) < 5_000:
            again_ms = at_ms + dice.log_normal(2.0, 1.2) * HOUR_MS
            heapq.heappush(returns, (again_ms, next(self._order), person))
        self._start(first_ms, person, acts, _HONEST)

    # -- attacks and look-alikes ------------------------------------------------------------

    def _plan(self, now_ms: float) -> None:
        """Start what is lacking until a horizon from now."""
        config, bustle = self._config, self.site.bustle(now_ms) / self.site.mean_bustle
        expected = self._emitted + self._per_ms * bustle * self._horizon_ms
        for _ in range(20):
            lacking = self._attacks.lacking(now_ms, expected)
            if not config.families or (lacking <= 0 and not self._opening):
                break
            self._attack(now_ms)
        for _ in range(20):
            if not config.look_alikes or self._look_alikes.lacking(now_ms, expected) <= 0:
                break
            self._scene(now_ms)

    def _attack(self, now_ms: float) -> None:
        """One campaign of what was least seen so far."""
        config, dice = self._config, self._dice
        options = [(f, d) for f in config.families for d in config.difficulties]
        pace = self._pace
        opening = bool(self._opening)
        if opening:
            first = self._opening.pop()
            options = [o for o in options if o[0] in _FAST and o[1] == first] or options
        # Least-seen first, by events; the noise keeps the order from being a clock.
        noise = 0.02 * self._emitted * config.attack_share + 20.0
        options = sorted(
            dict.fromkeys(options), key=lambda o: self._wanted(o) + dice.uniform() * noise
        )
        kind, difficulty = options[0]
        if self._attacks.crowded(self._per_ms):
            pace = min(pace, self._horizon_ms / (SPREAD_H[difficulty][1] * HOUR_MS))
        within_ms = self._horizon_ms
        if opening:
            within_ms = _OPENING_MS / 2
            pace = within_ms / (SPREAD_H[difficulty][1] * HOUR_MS)
        place = draw_place(dice, kind)
        scripts = campaign(
            self.site,
            kind,
            difficulty,
            place,
            start_ms=now_ms + dice.uniform() * within_ms,
            pace=pace,
            max_events=max(25, int(0.1 * config.attack_share * config.events)),
        )
        mark = _Mark(kind, difficulty, f"{config.seed}-{next(self._campaigns)}", place)
        for script in scripts:
            self._scheduled[kind, difficulty] += len(script.acts)
            self._attacks.plan(at_ms for at_ms, _ in script.acts)
            self._start(script.acts[0][0], script.person, script.acts, mark)

    def _wanted(self, option: tuple[str, Difficulty]) -> float:
        """Events scheduled so far, less where the difficulty is asked for more than once."""
        return self._scheduled[option] / self._config.difficulties.count(option[1])

    def _scene(self, now_ms: float) -> None:
        """One look-alike, of the kind that was least seen so far."""
        dice, seen = self._dice, self._acted
        kind = min(self._config.look_alikes, key=lambda k: seen[k] + dice.uniform() * 20.0)
        start_ms = now_ms + dice.uniform() * self._horizon_ms
        pace = max(self._pace, 0.2)
        for script in look_alike(self.site, kind, start_ms=start_ms, pace=pace):
            seen[kind] += len(script.acts)
            self._look_alikes.plan(at_ms for at_ms, _ in script.acts)
            mark = _Mark(look_alike=kind)
            self._start(script.acts[0][0], script.person, script.acts, mark)

    def _start(
        self, at_ms: float, person: Person, acts: list[tuple[float, Step]], mark: _Mark
    ) -> None:
        acts.reverse()
        heapq.heappush(self._heap, (at_ms, next(self._order), _Running(person, acts, mark)))


def _label(event_id: str, mark: _Mark) -> Label:
    if mark is _HONEST:
        return Label(event_id=event_id, label=0)
    return Label(
        event_id=event_id,
        label=int(mark.attack is not None),
        attack=mark.attack,
        difficulty=mark.difficulty,
        campaign=mark.campaign,
        place=mark.place,
        look_alike=mark.look_alike,
    )
