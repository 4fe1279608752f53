"""Campaign alerts over a data set: what the stream would join of the events decided anomalous.

The stream's own functions over the judged events in order of arrival; things are known by their
hashes here, as rows have nothing else of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.dataset import Dataset
from models.schema import Schema
from stream_app.core import crowd
from stream_app.core.accounts import Accounts
from stream_app.core.campaign import (
    CampaignBook,
    CampaignPolicy,
    Kind,
    News,
    Sighting,
    Thing,
)
from stream_app.core.context import ages_ms
from stream_app.core.coordination import NEW_MS, Member, gap_of, path_of
from stream_app.core.window import Ints


class Shared(Struct, frozen=True):
    """A campaign of at least as many users as an alert needs."""

    family: str
    before: float | None  # share of its events that came before its first alert; None: never told


class Alerted(Struct, frozen=True):
    """Of one draw: what campaign alerts were about, and what was alerted."""

    alerts: dict[str, int]  # by what they are about, see `about`; all campaigns as CAMPAIGN
    campaigns: dict[str, Shared]


Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Told = tuple[int, News]  # the event of the data set that told it

SHARED: Final[Mapping[str, Kind]] = {
    "item_id": "item",
    "query": "query",
    "attributes.device": "device",
}
NORMAL: Final = ""  # what an alert is about: else a campaign, or a kind of look-alike after this:
ALIKE: Final = "~"
CAMPAIGN: Final = "campaign"


def follow(
    data: Dataset, events: Ints, scores: Floats, schema: Schema, policy: CampaignPolicy
) -> list[Told]:
    """What is told while these anomalous events come in, with their `scores` (events,)."""
    book, found = CampaignBook(policy), list[Told]()
    for event, sighting in zip(
        events.tolist(), _sightings(data, events, scores, schema), strict=True
    ):
        if sighting.things:
            found += [(event, news) for news in book.follow([sighting])[0] if not news.closed]
    return found


def about(data: Dataset, news: Sequence[News]) -> list[str]:
    """What most users of each are part of, by the label of their first event: the id of a campaign,
    a kind of look-alike (after ALIKE), or NORMAL, also if there is no such majority.
    """
    known = {label.event_id: label for label in data.labels if label is not None}
    found = []
    for one in news:
        names = []
        for member in one.members:
            label = known.get(member.first_event_id)
            name = NORMAL
            if label is not None and label.label:
                name = label.campaign or NORMAL
            elif label is not None and label.look_alike:
                name = ALIKE + label.look_alike
            names.append(name)
        most = max(names, key=names.count)
        found.append(most if 2 * names.count(most) > len(names) else NORMAL)
    return found


def alerted(
    data: Dataset,
    events: Ints,
    scores: Floats,
    decided: Flags,
    schema: Schema,
    policy: CampaignPolicy,
) -> Alerted:
    """`events` are judged: their probabilities as `scores`, and those `decided` anomalous."""
    which = np.flatnonzero(decided)
    told = follow(data, events[which], scores[which], schema, policy)
    names = about(data, [news for _, news in told])
    alerts: dict[str, str] = {}
    first: dict[str, int] = {}  # by campaign: the event that told of it first
    for (event, news), name in zip(told, names, strict=True):
        alerts.setdefault(news.id, name)
        first.setdefault(name, event)
    places: dict[str, list[int]] = {}
    users: dict[str, set[int]] = {}
    family: dict[str, str] = {}
    for event in events.tolist():
        label = data.labels[event]
        if label is not None and label.label and label.campaign:
            places.setdefault(label.campaign, []).append(event)
            users.setdefault(label.campaign, set()).add(int(data.user[event]))
            family[label.campaign] = label.family or ""
    kinds = Counter(n if n == NORMAL or n.startswith(ALIKE) else CAMPAIGN for n in alerts.values())
    return Alerted(
        dict(kinds),
        {
            name: Shared(family[name], _before(own, first.get(name)))
            for name, own in places.items()
            if len(users[name]) >= policy.users
        },
    )


def _before(places: Sequence[int], first: int | None) -> float | None:
    return None if first is None else sum(place < first for place in places) / len(places)


def summary(some: Sequence[Alerted]) -> dict[str, Any]:
    """Of all seeds and draws together."""
    alerts: Counter[str] = Counter()
    for one in some:
        alerts.update(one.alerts)
    every = [shared for one in some for shared in one.campaigns.values()]
    before = [shared.before for shared in every if shared.before is not None]
    found: Counter[str] = Counter(s.family for s in every if s.before is not None)
    return {
        "alerts": alerts.total(),
        "of_campaigns": alerts[CAMPAIGN],
        "of_look_alikes": {
            kind.removeprefix(ALIKE): count
            for kind, count in sorted(alerts.items())
            if kind.startswith(ALIKE)
        },
        "campaigns": len(every),
        "found": len(before),
        "median_before": float(np.median(before)) if before else None,
        "families": {
            family: {"campaigns": count, "found": found[family]}
            for family, count in sorted(Counter(s.family for s in every).items())
        },
    }


def _sightings(data: Dataset, events: Ints, scores: Floats, schema: Schema) -> list[Sighting]:
    fields = {f.source: f.name for f in schema.of_kind("category") if f.source in SHARED}
    item = fields.get("item_id")
    new = _new_accounts(data) if schema.context else None
    found = []
    for event, score in zip(events.tolist(), scores.tolist(), strict=True):
        row = data.windows.rows[int(data.row[event])]
        own, items = path_of(data.windows, event, item)
        member = Member(
            data.users[int(data.user[event])],
            data.event_ids[event],
            round(score, 4),
            own,
            items,
            gap_of(data.windows, event),
            None if new is None else bool(new[event]),
        )
        things = tuple(
            Thing(kind, str(int(row[fields[source]])))
            for source, kind in SHARED.items()
            if source in fields and row[fields[source]]
        )
        found.append(Sighting(int(row["id"]), int(row["at_ms"]), things, member))
    return found


def _new_accounts(data: Dataset) -> Flags:
    """(events,) as the context stage knows it."""
    rows = data.windows.rows[data.row]
    first, _ = Accounts().first_seen(0, data.user.tolist(), crowd.buckets(rows["at_ms"]).tolist())
    return np.asarray(ages_ms(rows, first) < NEW_MS)
