"""What the stream decided, against what `shopsentry score` says of the same input.

Scores are compared within `TOLERANCE`: the stream writes four digits, and a device adds in another
order than the next one. Decisions and alerts have to be the same; one that differs for an event
whose score lies within the tolerance of its threshold shows as a difference too, and is for people
to judge. Events that say they were scored in another way (`coalesce`) are not compared; alerts of
their users after them may differ. Events without an id of their own are left out: an output does
not say which one it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from stream_app.core.audit import PASSED, Report, place_of
from stream_app.core.decode import decode
from stream_app.core.event import Tasks
from stream_app.core.outcome import SCORED_HEADER, Output
from stream_app.core.record import Record

TOLERANCE: Final = 1e-4


class Offline(Struct, frozen=True):
    """A line of `shopsentry score`, as far as it matters here."""

    event_id: str
    score: float
    anomalous: bool
    alert: bool = False


class _Alert(Struct):
    id: str


def compare(
    report: Report,
    outputs: Mapping[Output, Iterable[Record]],
    tasks: Tasks,
    offline: Iterable[Offline],
    judged: Collection[str],
    tolerance: float = TOLERANCE,
) -> int:
    """Add to `report` what differs for the events `judged` (by id); how many were compared.

    Ids have to be unique among them.
    """
    said = {line.event_id: line for line in offline if line.event_id in judged}
    compared: set[str] = set()
    for kind in PASSED:
        for record in outputs.get(kind, ()):
            for event in decode([record], tasks).events:
                if event.event_id not in judged:
                    continue
                headers = dict(record.headers)
                if SCORED_HEADER in headers:
                    continue
                line = said.get(event.event_id or "")
                if line is None:
                    report.differ("not scored", place_of(record), f"{event.event_id}: no such line")
                    continue
                compared.add(line.event_id)
                if line.anomalous != (kind is Output.QUARANTINED):
                    told = f"{event.event_id} in {kind}, offline score {line.score}"
                    report.differ("other decision", place_of(record), told)
                score = float(headers.get("shopsentry-score", b"nan"))
                if not abs(score - line.score) <= tolerance:
                    told = f"{event.event_id}: {score}, offline {line.score}"
                    report.differ("other score", place_of(record), told)
    alerts = {
        msgspec.json.decode(record.value or b"", type=_Alert).id
        for record in outputs.get(Output.ALERTS, ())
    }
    for event_id in sorted(compared):
        if (event_id in alerts) != said[event_id].alert:
            told = "an alert" if event_id in alerts else "no alert"
            report.differ("other alert", event_id, f"{told}, offline the other way")
    return len(compared)
