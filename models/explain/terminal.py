"""An explanation as a table for a terminal: newest events as columns, fields as rows.

A cell has what was observed, and below it what it adds, in percent of all that speaks for an
anomaly: warm colours speak for one, cold ones against. Without colours the numbers say it alone.
"""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from models.explain.explanation import Act, Cell, Explanation
from models.explain.labels import (
    ago,
    colour,
    dark,
    percent,
    plain,
    reasons,
    shortened_id,
    summary,
)

_EVENT: Final = 9  # characters of an event's column
_REST: Final = 6  # of the one that sums up what is not shown
_TOLD: Final = 0.005  # a smaller share is not told


def render(explained: Explanation, width: int, fields: int = 10) -> RenderableType:
    """As many events as `width` characters hold, and the `fields` with the strongest cells."""
    name_width, expected_width = (18, 11) if width < 100 else (27, 17)
    room = width - name_width - expected_width - _REST - 3
    shown = max(1, min(len(explained.acts), room // (_EVENT + 1)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column("", width=name_width)
    table.add_column(Text("expected"), width=expected_width)
    for act in explained.acts[:shown]:
        table.add_column(_heading(act, explained), width=_EVENT, overflow="ellipsis")
    left = len(explained.acts) - shown
    if left:
        table.add_column(Text(f"{left}\nbefore"), width=_REST)
    strongest = max((field.strongest for field in explained.fields), default=0.0)
    for field in explained.fields[:fields]:
        cells: list[RenderableType] = [_cell(cell, strongest) for cell in field.cells[:shown]]
        rest = sum(cell.share for cell in field.cells[shown:])
        table.add_row(
            Text(plain(field.name)),
            Text(plain(field.cells[0].expected), "dim"),
            *cells,
            *([Text("\n" + _share(rest))] if left else []),
        )
    table.add_section()
    sums: list[RenderableType] = [Text(_share(act.share)) for act in explained.acts[:shown]]
    rest = sum(act.share for act in explained.acts[shown:])
    table.add_row(Text("all fields"), Text(""), *sums, *([Text(_share(rest))] if left else []))
    without = [_without(act) for act in explained.acts[:shown]]
    table.add_row(Text("score without the event"), Text(""), *map(Text, without))
    lines = [Text(line) for line in summary(explained)]
    lines[0].stylize("bold")
    told = [Text(f"  {line}") for line in reasons(explained)]
    return Group(*lines, *told, Text(""), table)


def _heading(act: Act, explained: Explanation) -> Text:
    item = shortened_id(act.told.get("item_id", ""), _EVENT)
    return Text(f"{plain(act.type)}\n{ago(act, explained)}\n{item}")


def _cell(cell: Cell, strongest: float) -> Text:
    observed = Text(plain(cell.observed), "bold" if cell.unusual else "")
    share = _share(cell.share)
    if not share:
        return observed
    shade = colour(cell.share / strongest if strongest else 0.0)
    ink = "white" if dark(shade) else "black"
    text = Text.assemble(observed, "\n", share)
    text.stylize(Style(color=ink, bgcolor=f"rgb({shade[0]},{shade[1]},{shade[2]})"))
    return text


def _share(share: float) -> str:
    return percent(share) if abs(share) >= _TOLD else ""


def _without(act: Act) -> str:
    return "" if act.without is None else f"{act.without:.3f}"
