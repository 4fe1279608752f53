"""What is left at the end: where every record went, and what was found."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from stream_app.core.outcome import Output
from stream_app.demo.faults import BROKEN, REPEATED
from stream_app.demo.shop import BEFORE
from stream_app.demo.tally import Account, Found, Tally, quantile
from stream_app.demo.words import milliseconds, percent, plain, spoken

YES, NO = "[green]✓[/]", "[bold red]✗[/]"


def complaints(account: Account, tally: Tally, *, tracked: bool) -> list[str]:
    """What does not add up; nothing, if all is well."""
    found = []
    if not account.adds_up:
        difference = account.input - account.ended
        what = "have no outcome" if difference > 0 else "outcomes too many"
        found.append(f"{abs(difference):,} records {what}")
    if tracked and tally.awaited:
        found.append(f"{tally.awaited:,} events never came out")
    if tracked and tally.twice:
        found.append(f"{tally.twice:,} events came out twice")
    return found


def summary(
    account: Account,
    tally: Tally,
    took_s: float,
    *,
    tracked: bool,
    start_s: float = 0.0,
    skipped: int = 0,
) -> RenderableType:
    """`took_s`: how long records came at their time; `start_s`: from the start to the screen."""
    parts: list[RenderableType] = [
        Rule("summary", align="left", style="dim"),
        _account(account, tally, took_s),
        *_complaints(account, tally, tracked),
    ]
    if skipped:
        parts.append(Text(f"{skipped:,} rows of the file were no events and were not sent"))
    parts += [Text(""), _alerts(tally, start_s, tracked)]
    if tracked:
        parts += [Text(""), *_truth(tally, took_s)]
    return Group(*parts)


def _account(account: Account, tally: Tally, took_s: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    reasons = ", ".join(f"{count} {plain(reason)}" for reason, count in tally.dead.most_common())
    repeats = tally.sent[REPEATED]
    rows = (
        ("cleaned", account.cleaned, "normal, passed on byte for byte"),
        ("quarantined", account.quarantined, "anomalous, kept out of the cleaned stream"),
        ("dead letters", account.dead_letters, reasons),
        ("duplicates", account.duplicates, f"{repeats} sent twice on purpose" if repeats else ""),
    )
    before, broken = tally.sent[BEFORE], tally.sent[BROKEN]
    told = f"{before:,} of the minute before, " if before else ""
    told += f"{account.input - before:,} in {took_s:.0f} s"
    told += f", {broken} of them broken" if broken else ""
    table.add_row("input", "", f"{account.input:,}", told, style="bold")
    for sign, (name, count, meaning) in zip("=+++", rows, strict=True):
        share = percent(count, account.input)
        table.add_row(f"{sign} {name}", share, f"{count:,}", meaning)
    mark = YES if account.adds_up else NO
    verdict = "every record has one outcome" if account.adds_up else "it does not add up"
    table.add_row("sum", mark, f"{account.ended:,}", verdict, style="bold")
    return table


def _complaints(account: Account, tally: Tally, tracked: bool) -> list[Text]:
    told = complaints(account, tally, tracked=tracked)
    return [Text.from_markup(f"{NO} [bold red]{line}[/]") for line in told]


def _alerts(tally: Tally, start_s: float, tracked: bool) -> Text:
    count = tally.outputs[Output.ALERTS]
    if not count:
        return Text("no alerts")
    middle = milliseconds(quantile(tally.latencies_s, 0.5))
    slow = milliseconds(quantile(tally.latencies_s, 0.99))
    line = f"[bold]{count:,} alert{'s' if count != 1 else ''}[/]"
    if tally.latencies_s:
        line += f", from send to alert seen: p50 {middle}, p99 {slow}"
    if tally.first_alert_s is not None:
        line += f"; the first {start_s + tally.first_alert_s:.0f} s after the start"
    if tally.gangs:
        right = [tally.truth_of(one) for one in tally.gangs.values()]
        real = sum(label is not None and label.attack is not None for label in right)
        line += f"; {len(tally.gangs)} campaigns"
        line += f", {real} of them attacks" if tracked else ""
    return Text.from_markup(line)


def _truth(tally: Tally, took_s: float) -> list[RenderableType]:
    truth = tally.truth
    precision, recall = truth.precision, truth.recall
    if recall is None:
        return [Text("no attack ran, by the simulator's truth")]
    noticed = sum(c.found > 0 for c in tally.campaigns.values())
    head = Text.from_markup(
        f"precision [bold]{_two(precision)}[/], "
        f"recall [bold]{_two(recall)}[/], {noticed} of {len(tally.campaigns)} attacks noticed"
    )
    title = f"the simulator's truth of these {took_s:.0f} s"
    table = Table(title, "events", "found", "share", box=None, pad_edge=False, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    families = sorted(truth.families.items(), key=lambda item: -item[1].events)
    for family, found in families:
        _row(table, spoken(family), found, "")
    _row(table, "look-alikes, falsely", truth.look_alikes, "yellow")
    _row(table, "everybody else, falsely", truth.honest, "yellow")
    return [head, table]


def _row(table: Table, name: str, found: Found, style: str) -> None:
    share = percent(found.anomalous, found.events)
    table.add_row(name, f"{found.events:,}", f"{found.anomalous:,}", share, style=style)


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
