"""What all forms of an explanation have in common: its lines of text, and its colours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from models.explain.explanation import Act, Explanation
from models.explain.words import duration

METHODS: Final = {
    "gradient": "gradient \N{MULTIPLICATION SIGN} input",
    "path": "integrated gradients",
}
_FOR: Final = (203, 60, 40)  # red: speaks for an anomaly
_AGAINST: Final = (49, 104, 178)  # blue: speaks against one
_NEUTRAL: Final = (247, 246, 243)

Colour = tuple[int, int, int]


def summary(explained: Explanation) -> Iterator[str]:
    """What was scored, how high, by whom; the verdict first."""
    verdict = "anomalous" if explained.anomalous else "normal"
    yield plain(
        f"{verdict}: {explained.task} score {explained.score:.3f}, "
        f"anomalous from {explained.threshold:.3f}{_rare(explained)}"
    )
    act = explained.acts[0]
    yield plain(
        f"{act.type} {explained.event_id} of user {explained.user_id}, {when(explained.at_ms)}, "
        f"the last of {len(explained.acts)} events in {span(explained)}"
    )
    told = ", ".join(f"{name} {score:.3f}" for name, score in explained.members.items())
    several = "" if len(explained.members) < 2 else f" (alone: {told})"
    yield plain(f"model {explained.model}{several}, surprise {explained.surprise:.1f} nats")
    yield f"told by {METHODS[explained.method]}{_sum(explained)}"
    if explained.several:
        yield plain(_whose(explained))
        share = explained.weights.get(explained.lead, 0.0)
        yield plain(f"an alert's reasons are those of {explained.lead} alone ({share:.0%}):")


def _rare(explained: Explanation) -> str:
    p = explained.p_value
    return "" if p is None else f"; {p:.3g} of clean events score so high (p-value)"


def _whose(explained: Explanation) -> str:
    """How much each member has to say in the table, and what is in no cell of it."""
    told = "all by weight: " + ", ".join(f"{n} {w:.0%}" for n, w in explained.weights.items())
    if explained.occluded:
        told += f"; {' and '.join(explained.occluded)} by what is lost without a cell"
    if explained.heard is not None:
        told += f"; {percent(explained.heard)} is what was said of earlier events"
    return told


def _sum(explained: Explanation) -> str:
    """Whether the table adds up, where that was asked for."""
    if explained.rise is None or explained.off is None:
        return ""
    total = f"; all cells sum to {explained.rise:+.2f}, the raw score's rise over a typical window"
    if explained.adds_up:
        return f"{total} (within {explained.off:.3f})"
    return f"; the cells miss the raw score's rise of {explained.rise:+.2f} by {explained.off:.2f}"


def reasons(explained: Explanation) -> Iterator[str]:
    """As in an alert."""
    for reason in explained.reasons:
        back = f", {reason.events_back} events before" if reason.events_back else ""
        yield plain(
            f"{reason.share:4.0%} {reason.field}{back}: {reason.observed}, "
            f"expected {reason.expected}"
        )


def when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(explained: Explanation) -> str:
    return duration((explained.at_ms - explained.acts[-1].at_ms) / 1000)


def ago(act: Act, explained: Explanation) -> str:
    """How long before the scored event."""
    if act is explained.acts[0]:
        return "scored"
    return f"\N{MINUS SIGN}{duration((explained.at_ms - act.at_ms) / 1000)}"


def percent(share: float) -> str:
    return f"{share * 100:+.0f} %".replace("-", "\N{MINUS SIGN}")


def shortened_id(text: str, most: int) -> str:
    """Its end where it is long: ids differ there."""
    text = plain(text)
    return text if len(text) <= most else "\N{HORIZONTAL ELLIPSIS}" + text[1 - most :]


def plain(text: str) -> str:
    """What users chose themselves cannot drive a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def colour(strength: float) -> Colour:
    """-1 speaks against an anomaly, 1 for one; small ones are still seen."""
    end = _FOR if strength > 0 else _AGAINST
    share = min(abs(strength), 1.0) ** 0.6
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(_NEUTRAL, end, strict=True))
    return red, green, blue


def dark(shade: Colour) -> bool:
    """Whether white ink reads better on it than black."""
    red, green, blue = shade
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
