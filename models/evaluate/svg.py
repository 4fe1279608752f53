"""matplotlib's axes -> SVG text for a page: nothing of it outside the page, no times, no chance."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from models.extra import missing

INK: Final = "#1b1f24"
PALE: Final = "#9aa3ad"
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shopsentry",
    "font.size": 9.5,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@contextmanager
def axes(width: float = 4.9, height: float = 3.5, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    """Axes (or several beside each other; sizes in inches), and a function that makes SVG of them.

    Raises Misconfigured if matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("a report with plots", "matplotlib") from error
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(1, columns)

        def done() -> str:
            held = io.StringIO()
            nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            drawn.savefig(held, format="svg", metadata=nothing)
            return _inline(held.getvalue())

        yield axes, done


def _inline(svg: str) -> str:
    """Without what only a file of its own needs; the document type would name another server."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, rest = svg.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f"{head}>{rest}".replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
