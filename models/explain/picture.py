"""An explanation as a PNG: the strongest fields of the newest events, as a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from models.explain.explanation import Explanation
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
from models.extra import missing
from stream_app.core.errors import Misconfigured

FIELDS: Final = 14
ACTS: Final = 12
_TOLD: Final = 0.005
_LINES: Final = 6  # of text above the table; more move it down


def draw(explained: Explanation, path: Path) -> None:
    """Raises Misconfigured: matplotlib is missing, or the file cannot be written."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise missing("a PNG (--html does without)", "matplotlib") from error
    acts, fields = explained.acts[:ACTS], explained.fields[:FIELDS]
    strongest = max((field.strongest for field in fields), default=0.0) or 1.0
    first, *lines = summary(explained)
    told = [*lines, *(line.strip() for line in reasons(explained))]
    left, right, top, row = 4.2, 0.2, 2.6 + 0.2 * max(0, len(told) - _LINES), 0.44
    wide = 1.02 * len(acts)
    width, height = max(left + wide + right, 9.0), top + row * (len(fields) + 1) + 0.4
    with matplotlib.rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(width, height), dpi=150)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        axes.text(0.2, 0.32, first, fontsize=13, fontweight="bold", va="center")
        for at, line in enumerate(told):
            axes.text(0.2, 0.62 + 0.2 * at, line, fontsize=8, va="center", color="#444444")
        head = top - 0.5
        for at, act in enumerate(acts):
            item = shortened_id(act.told.get("item_id", ""), 11)
            text = f"{plain(act.type)}\n{ago(act, explained)}\n{item}"
            axes.text(left + 1.02 * (at + 0.5), head, text, fontsize=7.5, ha="center", va="center")
        axes.text(2.5, head + 0.26, "expected", fontsize=7.5, va="center", color="#777777")
        for line_at, field in enumerate(fields):
            y = top + row * line_at
            axes.text(0.2, y + row / 2, plain(field.name), fontsize=8, va="center")
            expected = field.cells[0].expected
            axes.text(2.5, y + row / 2, expected, fontsize=7, va="center", color="#777777")
            for at, cell in enumerate(field.cells[:ACTS]):
                x = left + 1.02 * at
                shade = colour(cell.share / strongest)
                fill = tuple(part / 255 for part in shade)
                axes.add_patch(Rectangle((x, y), 1.0, row - 0.03, facecolor=fill, lw=0))
                ink = "white" if dark(shade) else "#222222"
                share = percent(cell.share) if abs(cell.share) >= _TOLD else ""
                middle = y + row * (0.32 if share else 0.48)
                weight = "bold" if cell.unusual else "normal"
                axes.text(
                    x + 0.5,
                    middle,
                    cell.observed,
                    fontsize=7,
                    ha="center",
                    va="center",
                    color=ink,
                    fontweight=weight,
                )
                axes.text(
                    x + 0.5, y + row * 0.7, share, fontsize=6, ha="center", va="center", color=ink
                )
        y = top + row * (len(fields) + 0.5)
        axes.text(0.2, y, "score without the event", fontsize=8, va="center")
        for at, act in enumerate(acts):
            if act.without is not None:
                x = left + 1.02 * (at + 0.5)
                axes.text(x, y, f"{act.without:.3f}", fontsize=7, ha="center", va="center")
        key = (
            "red speaks for an anomaly, blue against one, in percent of all that speaks for one; "
            "bold is outside of what is expected (5 to 95 % of normal events)"
        )
        axes.text(0.2, height - 0.18, key, fontsize=7, va="center", color="#777777")
        try:
            figure.savefig(path, format="png")
        except OSError as error:
            raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error
