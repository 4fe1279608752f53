"""Stage 6b: anomalous events of several users at one thing, joined into one campaign alert.

A thing is an item, a query or a device. Its log holds the anomalous events at it in the order in
which they came. A new one goes on with the run of an earlier one, if it is within `quiet_ms` of it,
or begins a run of its own:

    log   a1 a2 a3 .. 40 min .. b1 b2 a4     run a: a1 a2 a3 (a4, if it came late), run b: b1 b2

Of a run's n-th event, n = 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, ... (four to a doubling), it is
asked whether the users look coordinated (`coordination`), by the newest `looked_at` events of the
run up to it. If so, that is news of the campaign: its first, or an update. So what is told follows
from the log up to the event alone: one that comes again finds its place and tells the same, with
the same id, whoever asks. A campaign that was quiet for `quiet_ms` of event time is closed by the
next anomalous event anywhere on the site.

Pure. `edges.redis_campaigns` keeps the logs in Redis and repeats `link` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace
from xxhash import xxh3_64_hexdigest

from stream_app.core.coordination import Evidence, Member, evidence_of

Kind = Literal["item", "query", "device"]
MEMBERS: Final = 64  # users told of at most


class CampaignPolicy(Struct, frozen=True, kw_only=True):
    """When anomalous events belong together, and when they are told of."""

    quiet_ms: int = 30 * 60 * 1000  # event time
    span_ms: int = 24 * 3600 * 1000  # a run that is older goes on as another one
    users: int = 3  # at least
    strength: float = 0.6  # of the evidence, at least; what it tells: scripts/fit_campaigns.py
    looked_at: int = 64  # events of a run
    kept: int = 192  # events of a thing: so many may come between an event and its repetition
    closings: int = 256  # remembered, so that an event that closed a campaign does so again


class Thing(Struct, frozen=True, array_like=True):
    """What events share."""

    kind: Kind
    name: str


class Sighting(Struct, frozen=True):
    """An anomalous event, as the logs of its things see it."""

    id: int  # hash of the event's id: the same in the stream, in a replay and in a file
    at_ms: int
    things: tuple[Thing, ...]
    member: Member


class Row(Struct, frozen=True, array_like=True):
    """A sighting in the log of a thing."""

    id: int
    run: int  # the id of the run's first
    nth: int  # of its run, from 1
    began_ms: int  # when its run began
    at_ms: int
    member: Member


class Joined(Struct, frozen=True):
    """A user of a campaign."""

    user_id: str
    events: int  # anomalous ones, of those looked at
    first_event_id: str
    score: float  # the highest


class News(Struct, frozen=True, array_like=True):
    """What is known of a campaign at one of its events, or that it is over."""

    id: str
    thing: Thing
    events: int  # anomalous ones so far; grows from one update to the next
    first_ms: int
    last_ms: int
    members: tuple[Joined, ...]  # by their first event
    evidence: Evidence
    closed: bool = False


def link(log: Sequence[Row], sighting: Sighting, policy: CampaignPolicy) -> Row:
    """The sighting's row, to be appended."""
    newest: dict[int, int] = {}  # of a run: how many it has
    at_ms = sighting.at_ms
    for row in reversed(log):
        nth = newest.setdefault(row.run, row.nth)
        near = abs(at_ms - row.at_ms) <= policy.quiet_ms
        if near and abs(at_ms - row.began_ms) <= policy.span_ms:
            return Row(sighting.id, row.run, nth + 1, row.began_ms, at_ms, sighting.member)
    return Row(sighting.id, sighting.id, 1, at_ms, at_ms, sighting.member)


def is_told(nth: int) -> bool:
    """Whether a run's n-th event may tell: its number has no more than three binary digits before
    the zeros.
    """
    return nth >= 3 and nth % (1 << max(0, nth.bit_length() - 3)) == 0


def told_of(
    sighting: Sighting, logs: Sequence[tuple[Sequence[Row], int]], policy: CampaignPolicy
) -> list[News]:
    """`logs`: of each of its things the log, and the sighting's place in it.

    An item and the query that leads to it are mostly shared by the same users: of the sighting's
    things, one is told of, the first of those with the most users.
    """
    if not any(is_told(log[place].nth) for log, place in logs):
        return []
    best: tuple[int, list[News]] = (0, [])
    for thing, (log, place) in zip(sighting.things, logs, strict=True):
        own = log[place]
        run = [row for row in log[: place + 1] if row.run == own.run][-policy.looked_at :]
        evidence = evidence_of([row.member for row in run], of_item=thing.kind == "item")
        coordinated = evidence.users >= policy.users and evidence.strength >= policy.strength
        if coordinated and evidence.users > best[0]:
            told = [_news(thing, own, run, evidence)] if is_told(own.nth) else []
            best = evidence.users, told
    return best[1]


def _news(thing: Thing, own: Row, run: Sequence[Row], evidence: Evidence) -> News:
    joined: dict[str, Joined] = {}
    for row in run:
        m = row.member
        was = joined.get(m.user_id, Joined(m.user_id, 0, m.event_id, 0.0))
        score = max(was.score, m.score)
        joined[m.user_id] = Joined(m.user_id, was.events + 1, was.first_event_id, score)
    return News(
        campaign_id(thing, own.run),
        thing,
        own.nth,
        min(own.began_ms, *(row.at_ms for row in run)),
        max(row.at_ms for row in run),
        tuple(joined.values())[-MEMBERS:],
        evidence,
    )


def campaign_id(thing: Thing, run: int) -> str:
    """From what it is about, and the event that began it."""
    return f"c{xxh3_64_hexdigest(f'{thing.kind}:{thing.name}:{run}'.encode())}"


def _known_as(thing: Thing, run: int) -> bytes:
    return f"{thing.kind}:{thing.name}".encode() + run.to_bytes(8, "little")


class CampaignBook:
    """The logs of all things, and the campaigns that are open, in memory."""

    def __init__(self, policy: CampaignPolicy) -> None:
        self._policy = policy
        self._logs: dict[Thing, list[Row]] = {}
        self._open: dict[tuple[Thing, int], News] = {}
        self._closings: list[tuple[int, News]] = []  # and the id of the event that did it

    def follow(self, sightings: Sequence[Sighting]) -> list[list[News]]:
        """What each sighting tells. See `ports.CampaignStore`."""
        placed = [self._join(sighting) for sighting in sightings]
        closed = [self._close(sighting) for sighting in sightings]
        found = []
        for sighting, logs, over in zip(sightings, placed, closed, strict=True):
            news = told_of(sighting, logs, self._policy)
            for one in news:
                log, place = logs[sighting.things.index(one.thing)]
                self._tell((one.thing, log[place].run), one)
            found.append([*over, *news])
        return found

    def _join(self, sighting: Sighting) -> list[tuple[list[Row], int]]:
        found = []
        for thing in sighting.things:
            log = self._logs.setdefault(thing, [])
            place = next((n for n, row in enumerate(log) if row.id == sighting.id), len(log))
            if place == len(log):
                row = link(log, sighting, self._policy)
                log.append(row)
                if news := self._open.get((thing, row.run)):
                    last_ms = max(news.last_ms, row.at_ms)
                    self._open[thing, row.run] = replace(news, last_ms=last_ms)
            found.append((log[:], place))
            del log[: -self._policy.kept]
        return found

    def _close(self, sighting: Sighting) -> list[News]:
        """Campaigns that are over by then; those that it closed when it came first."""
        until_ms = sighting.at_ms - self._policy.quiet_ms
        quiet = [(run, news) for run, news in self._open.items() if news.last_ms < until_ms]
        for run, news in sorted(quiet, key=lambda one: (one[1].last_ms, _known_as(*one[0]))):
            del self._open[run]
            self._closings.append((sighting.id, replace(news, closed=True)))
        del self._closings[: -self._policy.closings]
        return [news for by, news in self._closings if by == sighting.id]

    def _tell(self, run: tuple[Thing, int], news: News) -> None:
        was = self._open.get(run)
        if was is None or was.events < news.events:
            last_ms = max(news.last_ms, was.last_ms if was else 0)
            self._open[run] = replace(news, last_ms=last_ms)
