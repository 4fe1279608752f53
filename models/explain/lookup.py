"""A user's events in files: what a row, made of hashes, no longer says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from models.lines import read as lines_of
from stream_app.core.decode import decode
from stream_app.core.event import MAX_TIME_MS, Event, Tasks
from stream_app.core.record import StoredRecord


def look_up(
    paths: Sequence[Path], user_id: str, ids: Collection[str], tasks: Tasks
) -> dict[str, Event]:
    """The user's events of these ids; the first of each, and none that has no id of its own.

    A line is decoded only if the user's id stands in it. Raises Misconfigured.
    """
    sought = msgspec.json.encode(user_id)[1:-1]
    found: dict[str, Event] = {}
    for line in lines_of(paths):
        if sought not in line:
            continue
        for event in decode([_record(line)], tasks).events:
            event_id = event.event_id or ""
            if event.user_id == user_id and event_id in ids:
                found.setdefault(event_id, event)
    return found


def _record(line: bytes) -> StoredRecord:
    return StoredRecord(
        topic="", partition=0, offset=0, timestamp=MAX_TIME_MS, key=None, value=line
    )
