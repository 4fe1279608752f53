"""What a compression costs and saves, as rows of words: for the terminal and in Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from models.compress.speed import Spread

if TYPE_CHECKING:
    from models.compress.run import Compressed

Row = tuple[str, str, str, str]
HEADER: Row = ("", "before", "after", "change")


def rows(told: Compressed) -> list[Row]:
    size, agreed, timed = told.sizes, told.agreement, told.speed
    found: list[Row] = [
        ("size on disk", _kb(size[0]), _kb(size[1]), f"x {size[1] / size[0]:.2f}"),
        (
            f"windows/s, {timed.threads} CPU thread{'s' * (timed.threads > 1)}",
            _spread(timed.before, ",.0f"),
            _spread(timed.after, ",.0f"),
            f"x {_spread(timed.ratio, '.2f')}",
        ),
    ]
    for name, pair in (("ROC-AUC", agreed.auc), ("average precision", agreed.ap)):
        if pair is not None and not any(map(math.isnan, pair)):
            change = f"{pair[1] - pair[0]:+.4f}"
            found.append((name, f"{pair[0]:.4f}", f"{pair[1]:.4f}", change))
    return [
        *found,
        ("decided anomalous", f"{agreed.alarmed[0]:.3%}", f"{agreed.alarmed[1]:.3%}", ""),
        ("decisions changed", "", "", f"{agreed.changed:.3%}"),
        ("score difference, mean", "", "", f"{agreed.mean_difference:.5f}"),
        ("score difference, largest", "", "", f"{agreed.largest_difference:.5f}"),
    ]


def notes(told: Compressed) -> list[str]:
    agreed = told.agreement
    return [
        f"{told.how}: {told.before} -> {told.version}",
        f"judged on {agreed.events:,} events of users that nothing was fitted to, "
        f"{agreed.anomalies:,} labelled anomalies; speed: median (least-most) of rounds in turn",
        *(f"{name}: {what}" for name, what in told.members.items()),
    ]


def markdown(told: Compressed) -> str:
    lines = [HEADER, ("---", "---:", "---:", "---:"), *rows(told)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"# Compression\n\n{table}\n\n" + "".join(f"- {note}\n" for note in notes(told))


def _kb(size: int) -> str:
    return f"{size / 1000:,.0f} kB"


def _spread(of: Spread, shape: str) -> str:
    return f"{of.median:{shape}} ({of.least:{shape}}-{of.most:{shape}})"
