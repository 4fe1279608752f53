"""Attacks and look-alikes spliced into real events: the file's own people are the honest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from models.simulate.attacks import FAMILIES
from models.simulate.campaign import campaign, draw_place
from models.simulate.dice import Dice
from models.simulate.forge import Forge
from models.simulate.look_alikes import LOOK_ALIKES, look_alike
from models.simulate.recorded import RawEvent, Recorded
from models.simulate.world import (
    DIFFICULTIES,
    HOUR_MS,
    SESSION_BREAK_MS,
    Difficulty,
    Label,
    Script,
)

_WEEK_MS = 7 * 24 * HOUR_MS
_QUARTER_MS = 15 * 60_000

Made = tuple[dict[str, object], Label]


def splice(
    events: Sequence[RawEvent],
    seed: int,
    rate: float = 0.05,
    families: Sequence[str] = tuple(FAMILIES),
    difficulties: Sequence[Difficulty] = DIFFICULTIES,
    *,
    look_alike_rate: float = 0.03,
    from_ms: int = 0,
    campaign_events: int | None = None,
    varied: bool = False,
) -> tuple[list[dict[str, object]], list[Label]]:
    """Real events with attacks among them, in order of arrival, and a label for each.

    `events`: canonical, `event_time` in epoch ms, in order of arrival; theirs is kept. `rate` and
    `look_alike_rate`: spliced events as a share of the real ones since `from_ms`. Real events are
    labelled 0, and get an id (`seed-n`) where they have none. `campaign_events`: at most so many of
    one campaign; a tenth of all attacks, if not given. `varied` as for `campaign`.
    """
    world = Recorded(events, np.random.default_rng(seed), from_ms)
    named = all("event_id" in e for e in events)
    ids = Forge(world.dice, [str(e["event_id"]) for e in events] if named else [])
    wanted = rate * len(world.starts_ms)
    largest = campaign_events or max(25, int(0.1 * wanted))
    made = _attacks(world, ids, seed, wanted, largest, families, difficulties, varied)
    made += _scenes(world, ids, look_alike_rate * len(world.starts_ms))
    if any("session_id" in e for e in events[:1000]):
        _add_sessions(world.dice, events, [event for event, _ in made])
    merged = _merge(world, made)
    for place, (event, label) in enumerate(merged):
        if not named:
            event["event_id"] = f"{seed}-{place}"
            merged[place] = (event, _renamed(label, f"{seed}-{place}"))
    return [event for event, _ in merged], [label for _, label in merged]


def behead(events: Sequence[RawEvent], share: float, rng: np.random.Generator) -> list[RawEvent]:
    """Leave out the beginning of some users' histories, so that honest newcomers, too, turn up in
    the middle of a file that has none.
    """
    times = [e["event_time"] for e in events]
    first, last = min(map(_whole, times)), max(map(_whole, times))
    users = sorted({str(e["user_id"]) for e in events})
    drawn = rng.random((len(users), 2))
    begin = {
        u: first + at * (last - first)
        for u, (luck, at) in zip(users, drawn.tolist(), strict=True)
        if luck < share
    }
    return [e for e in events if _whole(e["event_time"]) >= begin.get(str(e["user_id"]), first)]


def _start_ms(world: Recorded) -> float:
    """At a time when people are about."""
    dice = world.dice
    drawn = world.starts_ms[dice.whole(0, len(world.starts_ms) - 1)]
    return float(drawn) + dice.between(-_QUARTER_MS, _QUARTER_MS)


def _attacks(
    world: Recorded,
    ids: Forge,
    seed: int,
    wanted: float,
    largest: int,
    families: Sequence[str],
    difficulties: Sequence[Difficulty],
    varied: bool,
) -> list[Made]:
    """Campaigns until there are enough events; the least seen family and difficulty next."""
    dice = world.dice
    pace = min(1.0, (world.last_ms - world.first_ms) / _WEEK_MS)
    options = [(f, d) for f in families for d in difficulties]
    seen: Counter[tuple[str, str]] = Counter()
    made: list[Made] = []
    number = 0
    while options and len(made) < wanted:
        noise = 20.0 + 0.02 * wanted
        ranked = sorted(options, key=lambda o: seen[o] + dice.uniform() * noise)
        kind, difficulty = ranked[0]
        place = draw_place(dice, kind)
        number += 1
        seen[kind, difficulty] += 5  # what falls outside the file must not be tried forever
        scripts = campaign(
            world,
            kind,
            difficulty,
            place,
            start_ms=_start_ms(world),
            pace=pace,
            max_events=largest,
            varied=varied,
            mixed_with=families,
        )
        label = Label(
            event_id="",
            label=1,
            attack=kind,
            difficulty=difficulty,
            campaign=f"{seed}-{number}",
            place=place,
        )
        new = _played(world, ids, scripts, label)
        seen[kind, difficulty] += len(new)
        made += new
    return made


def _scenes(world: Recorded, ids: Forge, wanted: float) -> list[Made]:
    made: list[Made] = []
    seen: Counter[str] = Counter()
    while len(made) < wanted:
        kind = min(LOOK_ALIKES, key=lambda k: seen[k] + world.dice.uniform() * 20.0)
        scripts = look_alike(world, kind, start_ms=_start_ms(world))
        new = _played(world, ids, scripts, Label(event_id="", label=0, look_alike=kind))
        seen[kind] += len(new) + 5  # what falls outside the file must not be tried forever
        made += new
    return made


def _played(world: Recorded, ids: Forge, scripts: Sequence[Script], label: Label) -> list[Made]:
    """The events of scripts, as far as they fall into the file's time."""
    made: list[Made] = []
    for script in scripts:
        for at_ms, step in script.acts:
            if world.first_ms <= at_ms <= world.last_ms:
                event_id = ids.make()
                event = world.event(event_id, script.person, at_ms, step)
                made.append((event, _renamed(label, event_id)))
    return made


def _renamed(label: Label, event_id: str) -> Label:
    return Label(
        event_id=event_id,
        label=label.label,
        attack=label.attack,
        difficulty=label.difficulty,
        campaign=label.campaign,
        place=label.place,
        look_alike=label.look_alike,
    )


def _add_sessions(
    dice: Dice, events: Sequence[RawEvent], spliced: Sequence[dict[str, object]]
) -> None:
    """Session ids in the file's manner: an account keeps one until it rests for half an hour."""
    forge = Forge(dice, sorted({str(e["session_id"]) for e in events if "session_id" in e}))
    last: dict[object, tuple[int, str]] = {}
    for event in sorted(spliced, key=lambda e: _whole(e["event_time"])):
        user, at_ms = event["user_id"], _whole(event["event_time"])
        known = last.get(user)
        fresh = known is None or at_ms - known[0] > SESSION_BREAK_MS
        session = forge.make() if known is None or fresh else known[1]
        last[user] = (at_ms, session)
        event["session_id"] = session


def _merge(world: Recorded, made: Sequence[Made]) -> list[Made]:
    """Real events keep their order, wrong clocks included; among equal times, chance decides."""
    dice = world.dice
    arrival = np.maximum.accumulate(np.minimum(world.times_ms, world.last_ms)).tolist()
    keyed: list[tuple[int, float, int, Made]] = []
    before, tie = -1, 0.0
    for place, (event, at_ms) in enumerate(zip(world.events, arrival, strict=True)):
        tie = tie + (1.0 - tie) * dice.uniform() * 0.5 if at_ms == before else dice.uniform()
        before = at_ms
        label = Label(event_id=str(event.get("event_id", "")), label=0)
        keyed.append((at_ms, tie, place, (dict(event), label)))
    keyed += [
        (_whole(m[0]["event_time"]), dice.uniform(), len(arrival) + n, m)
        for n, m in enumerate(made)
    ]
    keyed.sort(key=lambda k: k[:3])
    return [made_event for _, _, _, made_event in keyed]


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"event_time must be whole epoch milliseconds, not {value!r}")
    return value
