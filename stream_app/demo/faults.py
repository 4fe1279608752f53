"""What real feeds have in them: records that are no events, and records sent twice."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from stream_app.demo.shop import Due

BROKEN: Final = "broken"
REPEATED: Final = "repeated"
DAY_MS: Final = 86_400_000


def with_faults(feed: Iterator[Due], seed: int, every: int = 500) -> Iterator[Due]:
    """The feed, and after about each `every` records a broken one and a repetition.

    A repetition comes within two seconds: producers repeat when an answer is lost.
    """
    dice = random.Random(seed)
    waiting: list[tuple[float, int, Due]] = []
    break_at, repeat_at = dice.randint(1, every), dice.randint(1, every)
    for place, due in enumerate(feed, 1):
        while waiting and waiting[0][0] <= due.at_s:
            yield heapq.heappop(waiting)[2]
        yield due
        if place == break_at:
            break_at += dice.randint(every // 2, every * 3 // 2)
            yield _broken(due, dice)
        if place == repeat_at:
            repeat_at += dice.randint(every // 2, every * 3 // 2)
            again = due._replace(at_s=due.at_s + dice.uniform(0.2, 2.0), kind=REPEATED)
            heapq.heappush(waiting, (again.at_s, place, again))
    yield from (due for _, _, due in sorted(waiting))


def _broken(due: Due, dice: random.Random) -> Due:
    """A record such as the one given, but no event."""
    event: dict[str, Any] = msgspec.json.decode(due.value)
    event["event_id"] = f"broken-{event.get('event_id')}"
    key, value = due.key, b""
    match dice.choice(("cut", "latin-1", "nobody", "type", "price", "future", "key")):
        case "cut":
            value = due.value[: len(due.value) * 2 // 3]
        case "latin-1":
            value = msgspec.json.encode({**event, "query": "?"}).replace(b"?", b"caf\xe9")
        case "nobody":
            del event["user_id"]
        case "type":
            event["type"] = "teleport"
        case "price":
            event["price"] = -1
        case "future":
            event["event_time"] += DAY_MS
        case "key":
            key = b"somebody-else"
    return due._replace(key=key, value=value or msgspec.json.encode(event), kind=BROKEN, label=None)
