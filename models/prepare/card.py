"""The data card: what the files were, what became of each row, what the parts hold.

It holds no date and no path, so that the same files and options make the same card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from models.prepare.checks import BIT, CHECKS, Actions, first_dropping
from models.prepare.config import PrepareConfig
from models.prepare.parts import FLOOR_MS
from models.prepare.statistics import Bins, PartFacts, Vocabulary
from stream_app.core.event import MAX_TIME_MS


class Source(Struct, frozen=True):
    file: str
    bytes: int
    sha256: str
    format: str
    rows: int


class Line(Struct, frozen=True):
    """A check: rows that it hits, and those dropped for it and for no earlier one."""

    name: str
    means: str
    action: str
    hits: int
    dropped: int


class Report(Struct, frozen=True):
    """read = kept + the dropped of all checks."""

    read: int
    kept: int
    flagged: int  # of the kept
    checks: tuple[Line, ...]


class Card(Struct, frozen=True, kw_only=True):
    schema: str
    sources: tuple[Source, ...]
    order: str
    behind: float  # share of rows more than an hour older than an earlier row
    options: dict[str, object]
    usual_ms: tuple[int, int]
    cuts_ms: tuple[int, int]
    held_out_users: int
    campaign_users: int
    report: Report
    parts: dict[str, PartFacts]
    vocabularies: list[Vocabulary]
    bins: list[Bins]


def options_of(config: PrepareConfig) -> dict[str, object]:
    return {
        "columns": dict(config.columns),
        "types": dict(config.types),
        "valid": config.valid,
        "test": config.test,
        "held_out": config.held_out,
        "seed": config.seed,
        "min_events": config.min_events,
        "burst": config.burst,
        "regular": config.regular,
        "labels": [path.name for path in config.labels],
    }


def report(counted: Mapping[int, int], chosen: Actions) -> Report:
    """`counted`: bits of checks -> rows that have just these."""
    hits = dict.fromkeys(BIT, 0)
    dropped = dict.fromkeys(BIT, 0)
    read = kept = flagged = 0
    for bits, rows in counted.items():
        read += rows
        for name, bit in BIT.items():
            hits[name] += rows if bits & bit else 0
        reason = first_dropping(bits, chosen)
        if reason is not None:
            dropped[reason] += rows
        else:
            kept += rows
            flagged += rows if bits else 0
    lines = (
        Line(
            check.name,
            check.means,
            "drop" if check.name in chosen.dropping else "flag",
            hits[check.name],
            dropped[check.name],
        )
        for check in CHECKS
    )
    return Report(read, kept, flagged, tuple(lines))


def markdown(card: Card) -> str:
    told = card.report
    pieces = [
        "# Data card",
        f"{told.read:,} rows read = {told.kept:,} kept + {told.read - told.kept:,} dropped; "
        f"{told.flagged:,} of the kept are flagged. Schema `{card.schema}`. {_ordered(card)}",
        *_warnings(card),
        "## Sources",
        _table(
            ("file", "format", "rows", "bytes", "sha256"),
            ((s.file, s.format, s.rows, s.bytes, f"`{s.sha256}`") for s in card.sources),
        ),
        "## Cleaning",
        "A row is dropped for the first check that hits and drops; dropped rows are in "
        "`dropped.parquet` with their reason, flags of kept ones in the column `flags`. "
        "Bots are flagged, not dropped, unless asked for: they are what the monitor has to find.",
        _table(
            ("check", "what it is", "action", "rows", "dropped for it"),
            ((c.name, c.means, c.action, c.hits, c.dropped) for c in told.checks if c.hits),
        ),
        _not_found(told),
        f"Times from {_when(card.usual_ms[0])} to {_when(card.usual_ms[1])} count as usual.",
        "## Parts",
        f"validation begins at {_when(card.cuts_ms[0])}, test at {_when(card.cuts_ms[1])}. "
        f"{card.held_out_users:,} users are held out: only test has them. {_campaigns(card)}"
        "Their earlier events are history: they fill windows, nobody trains on them.",
        _table(
            ("part", "events", "users", "from", "to", "labelled", "anomalous", "prevalence"),
            (
                (
                    name, p.events, p.users, _when(p.first_ms), _when(p.last_ms), p.labelled,
                    p.anomalous, f"{p.anomalous / p.labelled:.3%}" if p.labelled else "",
                )
                for name, p in card.parts.items()
            ),
        ),
        _missing(card),
        _attacks(card),
        "## Vocabularies of train",
        _table(
            ("field", "values", "once", "median", "most", "in the top 1 %", "unseen in valid, test",
             "most frequent"),
            (
                (
                    v.field, v.values, v.once, v.median, v.most, f"{v.in_top_1_percent:.1%}",
                    ", ".join(f"{share:.1%}" for share in v.unseen.values()),
                    ", ".join(f"{_cell(value)} {count:,}" for value, count in v.top.items()),
                )
                for v in card.vocabularies
            ),
        ),
        "## Quantiles",
        "Of train; pauses of a user are of all parts.",
        _table(
            ("field", "known", "least", "1/16", "1/4", "half", "3/4", "15/16", "largest"),
            (
                (b.field, b.known, *(_amount(b.edges[at]) for at in (0, 1, 4, 8, 12, 15, 16)))
                for b in card.bins
                if b.edges
            ),
        ),
    ]  # fmt: skip
    return "\n\n".join(piece for piece in pieces if piece) + "\n"


def _ordered(card: Card) -> str:
    behind = f"{card.behind:.1%} of the rows lay more than an hour behind an earlier one."
    return f"{'By event time' if card.order == 'time' else 'In the order of the files'}; {behind}"


def _warnings(card: Card) -> list[str]:
    """What a person should look at before training."""
    told = []
    if card.usual_ms[1] < FLOOR_MS:
        told.append(
            "**Times lie before 2000**: they count from the log's own start, or are seconds where "
            "the contract has milliseconds. Hours of the day mean nothing then."
        )
    share = (card.report.read - card.report.kept) / max(card.report.read, 1)
    if share > 0.05:
        told.append(f"**{share:.1%} of the rows are dropped.** Is the mapping of columns right?")
    moved = card.parts["history"].events / max(card.report.kept, 1)
    if card.campaign_users and moved > 0.3:
        told.append(
            f"**{moved:.1%} of the events are history only**: campaigns run across the cuts. "
            "Put the cuts elsewhere by --valid and --test."
        )
    empty = [name for name in ("train", "valid", "test") if not card.parts[name].events]
    return [*told, *(f"**{name} has no event.**" for name in empty)]


def _not_found(told: Report) -> str:
    names = [line.name for line in told.checks if not line.hits]
    return f"Looked for and not found: {', '.join(names)}." if names else ""


def _campaigns(card: Card) -> str:
    many = card.campaign_users
    return (
        f"{many:,} users of campaigns that run across a cut are in the later part alone. "
        if many
        else ""
    )


def _missing(card: Card) -> str:
    fields = {field for part in card.parts.values() for field in part.missing}
    told = ((f, *(p.missing.get(f, 0) for p in card.parts.values())) for f in sorted(fields))
    return "Events without a value:\n\n" + _table(("field", *card.parts), told) if fields else ""


def _attacks(card: Card) -> str:
    names = {name for part in card.parts.values() for name in part.attacks}
    told = ((n, *(p.attacks.get(n, 0) for p in card.parts.values())) for n in sorted(names))
    return (
        "Anomalous events by attack:\n\n" + _table(("attack", *card.parts), told) if names else ""
    )


def _when(at_ms: int | None) -> str:
    if at_ms is None or at_ms > MAX_TIME_MS:
        return "never"
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
