"""What is seen while the shop is open: a screen, or plain lines where there is none."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Protocol, Self

from msgspec import Struct
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from models.simulate.world import Label
from stream_app.core.messages import CampaignData
from stream_app.core.outcome import DUPLICATES, Output
from stream_app.demo.tally import Campaign, SeenAlert, Tally, quantile
from stream_app.demo.words import because, clock, milliseconds, percent, plain, spoken

PLAIN_S: Final = 5.0  # between two plain lines
RECENT: Final = 200  # alerts that the shown latency is about
BLOCKS: Final = " ▁▂▃▄▅▆▇█"


class Moment(Struct, frozen=True):
    """All that a view needs beside the tally."""

    at_s: float  # since the screen opened
    open_s: float  # since records come at their time
    duration_s: float
    lag: int
    trouble: str  # what the worker complains of; empty if nothing
    model: str
    device: str
    phase: str = ""  # what goes on, if it is not just running
    has_truth: bool = True


class View(Protocol):
    def show(self, moment: Moment) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Lines:
    """A line every few seconds, and the first alert at once."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._speed = _Speed()
        self._next_s = PLAIN_S
        self._phase = ""
        self._told_first = False

    def show(self, moment: Moment) -> None:
        tally = self._tally
        rate = self._speed.of(tally.total_sent, moment.at_s)
        with tally.lock:
            newest = tally.newest[-1] if tally.newest else None
        if newest is not None and not self._told_first:
            self._told_first = True
            reasons = "; ".join(because(r) for r in newest.data.reasons[:1])
            self._say(f"first alert: {_whose(newest)} {reasons}")
        if moment.phase and moment.phase != self._phase:
            self._say(f"{moment.phase} ...")
        self._phase = moment.phase
        if moment.at_s < self._next_s:
            return
        self._next_s = moment.at_s + PLAIN_S
        out = tally.outputs
        self._say(
            f"{clock(moment.at_s)}  {rate:.0f} events/s, lag {moment.lag:,}: "
            f"{out[Output.CLEANED]:,} cleaned, {out[Output.QUARANTINED]:,} quarantined, "
            f"{out[Output.DEAD_LETTERS]:,} dead letters, {tally.duplicates:,} duplicates; "
            f"{out[Output.ALERTS]:,} alerts"
            + (f"; {plain(moment.trouble)}" if moment.trouble else "")
        )

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Screen:
    """The whole terminal, drawn anew a few times a second."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console, self._tally = console, tally
        self._speed = _Speed()
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def show(self, moment: Moment) -> None:
        if moment.open_s == 0:
            self._speed.forget()  # a burst would flatten all that follows
        self._speed.of(self._tally.total_sent, moment.at_s)
        self._live.update(self.draw(moment), refresh=True)

    def draw(self, moment: Moment) -> RenderableType:
        width, height = self._console.size
        with self._tally.lock:
            head = [*_head(moment, width), self._numbers(moment, width)]
            left = height - 6
            attacks: list[RenderableType] = []
            if moment.has_truth:
                rows = max(3, left // 4)
                attacks = self._attacks(moment, rows, width)
                left -= rows + 1
            gangs = self._gangs(moment, max(1, left // 4))
            return Group(*head, *attacks, *gangs, *self._alerts(moment, left - len(gangs), width))

    def _numbers(self, moment: Moment, width: int) -> Table:
        tally, out = self._tally, self._tally.outputs
        recent = tally.latencies_s[-RECENT:]
        left = (
            ("events/s", f"{self._speed.now:.0f}", self._speed.sparks(16)),
            ("lag", f"{moment.lag:,}", "records not done yet"),
            ("scored", f"{tally.scored:,}", "windows"),
            (
                "alerts",
                f"{out[Output.ALERTS]:,}",
                f"seen after {_typical(recent)}" if recent else "",
            ),
        )
        right = (
            ("cleaned", out[Output.CLEANED], "green"),
            ("quarantined", out[Output.QUARANTINED], "red"),
            ("dead letters", out[Output.DEAD_LETTERS], "yellow"),
            (DUPLICATES, tally.duplicates, "cyan"),
        )
        total = max(1, sum(count for _, count, _ in right))
        table = Table.grid(padding=(0, 1), expand=True)
        for justify in ("left", "right", "left", "left", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        table.columns[2].ratio = 1
        bar = max(6, min(40, width - 72))
        for (name, value, more), (outcome, count, style) in zip(left, right, strict=True):
            table.add_row(
                Text(name, "dim"),
                Text(value, "bold"),
                Text(more, "cyan" if name == "events/s" else "dim"),
                Text(outcome, "dim"),
                Text(f"{count:,}", "bold"),
                Text(percent(count, total), "dim"),
                Text(_bar(count / total, bar), style),
            )
        return table

    def _attacks(self, moment: Moment, rows: int, width: int) -> list[RenderableType]:
        running = self._tally.under_way(moment.at_s)
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        for campaign in running[:rows]:
            table.add_row(*_campaign(campaign, max(10, width - 72)))
        lines: list[RenderableType] = [table] if running else []
        filler = rows - min(len(running), rows)
        more = f", {len(running) - rows} more" if len(running) > rows else ""
        title = f"attacks under way, as only the simulator knows{more}"
        return [_rule(title), *lines, *[Text("")] * filler]

    def _gangs(self, moment: Moment, rows: int) -> list[RenderableType]:
        """Campaigns as the worker tells them, the newest news first."""
        newest = list(self._tally.gangs.values())[::-1][:rows]
        if not newest:
            return []
        lines = [_gang(one, self._tally.truth_of(one), moment.has_truth) for one in newest]
        return [_rule(f"campaigns found, {len(self._tally.gangs)} so far"), *lines]

    def _alerts(self, moment: Moment, rows: int, width: int) -> list[RenderableType]:
        reasons = 1 if rows < 20 else 2
        lines: list[RenderableType] = []
        for alert in self._tally.newest:
            told = _alert(alert, moment.has_truth, reasons)
            if len(lines) + len(told) > rows - 1:
                break
            lines += told
        if not lines:
            lines = [Text("none so far", "dim")]
        return [_rule("newest alerts"), *lines]

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


class _Speed:
    """Events a second, over the last two seconds, and a minute of that."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()
        self._history: deque[float] = deque(maxlen=60)
        self._second = 0  # the newest in the history
        self.now = 0.0

    def of(self, count: int, at_s: float) -> float:
        points = self._points
        points.append((at_s, count))
        while len(points) > 2 and points[0][0] < at_s - 2.0:
            points.popleft()
        span_s = points[-1][0] - points[0][0]
        self.now = (points[-1][1] - points[0][1]) / span_s if span_s > 0 else 0.0
        if int(at_s) > self._second:
            self._history.append(self.now)
            self._second = int(at_s)
        return self.now

    def forget(self) -> None:
        self._history.clear()

    def sparks(self, count: int) -> str:
        newest = list(self._history)[-count:]
        top = max(newest, default=0.0) or 1.0
        return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in newest)


def _head(moment: Moment, width: int) -> list[RenderableType]:
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    of = f" of {clock(moment.duration_s)}"
    shown = min(moment.open_s, moment.duration_s)
    left = Text.assemble(("shopsentry demo", "bold"), f"   {clock(shown)}{of}")
    left.append(f"   {moment.model} on {moment.device}", "dim")
    note = Text(moment.phase + " ..." if moment.phase else "Ctrl-C ends it", "dim")
    table.add_row(left, note)
    trouble = Text(plain(moment.trouble), "bold red", no_wrap=True, overflow="ellipsis")
    return [table, trouble if moment.trouble else Rule(style="dim")]


def _rule(title: str) -> Rule:
    return Rule(Text(title, "bold"), align="left", style="dim")


def _campaign(campaign: Campaign, width: int) -> tuple[Text, ...]:
    users = len(campaign.users)
    who = f"{users} account{'s' if users != 1 else ''}"
    share = campaign.found / campaign.sent if campaign.sent else 0.0
    return (
        Text(spoken(campaign.family), "bold"),
        Text(campaign.difficulty, "dim"),
        Text(who),
        Text(f"{campaign.found:,} of {campaign.sent:,} found"),
        Text(_bar(share, min(width, 24)), "red"),
    )


def _alert(alert: SeenAlert, has_truth: bool, reasons: int) -> list[Text]:
    data = alert.data
    first = Text(no_wrap=True, overflow="ellipsis")
    first.append(f"{clock(alert.at_s):>5}  ", "dim")
    first.append(f"{data.score:.2f} ", "bold red")
    first.append(f"{spoken(data.task)} by user {plain(data.user_id)}", "bold")
    if data.suppressed:
        first.append(f", {data.suppressed} more before", "dim")
    if has_truth:
        first.append("   ")
        first.append(*_truth(alert))
    return [
        first,
        *(
            Text(f"       {because(reason)}", "dim", no_wrap=True, overflow="ellipsis")
            for reason in data.reasons[:reasons]
        ),
    ]


def _gang(data: CampaignData, truth: Label | None, has_truth: bool) -> Text:
    line = Text("       ", no_wrap=True, overflow="ellipsis")
    line.append(f"{data.evidence.strength:.2f} ", "bold red")
    line.append(f"{len(data.members)} users at {data.kind} {plain(data.thing)}", "bold")
    line.append(f", {data.events} events{', over' if data.status == 'closed' else ''}", "dim")
    if has_truth:
        line.append("   ")
        line.append(*_judged(truth))
    return line


def _truth(alert: SeenAlert) -> tuple[str, str]:
    return _judged(alert.truth)


def _judged(label: Label | None) -> tuple[str, str]:
    if label is None:
        return "false alarm", "yellow"
    if label.attack is not None:
        return f"✓ {spoken(label.attack)}", "green"
    return f"false alarm: {spoken(label.look_alike or '')}", "yellow"


def _whose(alert: SeenAlert) -> str:
    data = alert.data
    return f"{spoken(data.task)} by user {plain(data.user_id)}, score {data.score:.2f};"


def _typical(latencies_s: list[float]) -> str:
    return milliseconds(quantile(latencies_s, 0.5))


def _bar(share: float, width: int) -> str:
    """At least a sliver for what is more than nothing."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
