"""Whether a single raw field gives the hard attacks of a labelled draw away (see simulate.audit).

Where it does, every detector looks better on these attacks than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import msgspec

from models.dataset import Dataset
from models.simulate.audit import audit, leaks
from models.simulate.world import Difficulty, Label, Simulated

_HARDEST: Final = "hard"


def leaking_fields(lines: Iterable[bytes], data: Dataset) -> dict[str, Any]:
    """AUC of each raw field of one event, hard attacks (else all) against normal events.

    `data`: with the labels of the events in `lines`. Events without a whole number as time, and
    lines that are no JSON objects, are passed over.
    """
    labels = {
        event_id: label
        for event_id, label in zip(data.event_ids, data.labels, strict=True)
        if label is not None
    }
    found = sorted({label.difficulty for label in labels.values() if label.difficulty})
    difficulty = _HARDEST if _HARDEST in found else ""
    simulated = []
    for event in _events(lines):
        known = labels.get(str(event.get("event_id", "")))
        if known is not None and isinstance(event.get("event_time"), int):
            harder = known.difficulty if difficulty else ""
            label = Label(
                event_id=known.event_id,
                label=known.label,
                difficulty=cast(Difficulty, harder or ""),
            )
            simulated.append(Simulated(event, label))
    areas = audit(simulated, cast(Difficulty, difficulty)) if simulated else {}
    return {
        "against": f"{difficulty} attacks" if difficulty else "all anomalies",
        "fields": areas,
        "leaks": leaks(areas),
    }


def _events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    decode = msgspec.json.Decoder().decode
    for line in lines:
        try:
            event = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        own = event.get("data", event) if isinstance(event, dict) else None
        if isinstance(own, dict):  # a CloudEvents envelope has the event in `data`
            yield own
