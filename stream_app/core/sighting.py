"""An anomalous event and its window -> what campaigns are told by (`campaign.Sighting`)."""

from __future__ import annotations

from typing import Final

from stream_app.core.campaign import Sighting, Thing
from stream_app.core.coordination import NEW_MS, Member, gap_of, path_of
from stream_app.core.event import Event
from stream_app.core.outcome import Seen
from stream_app.core.score import Scores

DEVICE: Final = "device"  # the attribute that names it


def sighting(seen: Seen, scores: Scores, window: int, item: str | None) -> Sighting:
    """Of an anomalous window of a group; `item` is the field of its rows that has the item."""
    at = int(seen.accepted[window])
    event, windows = seen.decoded.events[at], seen.windows
    own, items = path_of(windows, window, item)
    member = Member(
        event.user_id,
        event.event_id or "",
        round(float(scores.calibrated[window]), 4),
        own,
        items,
        gap_of(windows, window),
        None if seen.ages_ms is None else bool(seen.ages_ms[at] < NEW_MS),
    )
    row = windows.rows[windows.index[window, -1]]
    return Sighting(int(row["id"]), event.at_ms, things_of(event), member)


def things_of(event: Event) -> tuple[Thing, ...]:
    """What the event may share with others."""
    device = (event.attributes or {}).get(DEVICE)
    found: list[Thing] = []
    if event.item_id:
        found.append(Thing("item", event.item_id))
    if event.query:
        found.append(Thing("query", event.query))
    if device is not None:
        found.append(Thing("device", str(device)))
    return tuple(found)
