"""Numbers and reasons as people say them. What users chose themselves cannot drive the terminal."""

from __future__ import annotations

from stream_app.core.score import Reason


def plain(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def spoken(name: str) -> str:
    """click_fraud -> click fraud."""
    return plain(name.replace("_", " "))


def because(reason: Reason) -> str:
    """`gap 0.4 s, usually 5 s to 4 min`."""
    back = reason.events_back
    when = "" if back == 0 else " one event before" if back == 1 else f" {back} events before"
    return plain(f"{spoken(reason.field)}{when}: {reason.observed}, usually {reason.expected}")


def percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %" if of else "-"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02}"
