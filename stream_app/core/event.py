"""Stage 1: the contract of an event, as producers send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct, field

Id = Annotated[str, Meta(max_length=256)]
MAX_TIME_MS = (1 << 47) - 1  # the year 6429: six bytes, as windows are stored; sums fit an int64


class Event(Struct, gc=False, kw_only=True):
    """One act of one user.

    `at_ms` is the event time in epoch milliseconds; on the wire it is `event_time`, which may also
    be RFC 3339 (`decode` turns that into milliseconds). `event_id` is filled in by `decode` if
    absent. Unknown fields are ignored here: the cleaned stream passes the original bytes on.
    """

    user_id: Annotated[str, Meta(min_length=1, max_length=256)]
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    at_ms: Annotated[int, Meta(ge=0, le=MAX_TIME_MS)] = field(name="event_time")
    event_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    item_id: Id | None = None
    category_id: Id | None = None
    session_id: Id | None = None
    query: Annotated[str, Meta(max_length=512)] | None = None
    position: Annotated[int, Meta(ge=0)] | None = None
    price: Annotated[float, Meta(ge=0)] | None = None
    quantity: Annotated[int, Meta(ge=1)] | None = None
    attributes: dict[str, str | float | None] | None = None


class Tasks(Struct, frozen=True):
    """Which task an event type is scored under. Comes from the model's schema."""

    names: tuple[str, ...]  # the scored tasks, for example browse, click, purchase
    of_type: Mapping[str, int]  # event type -> index into `names`
