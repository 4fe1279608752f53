"""An explanation as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from html import escape
from typing import Final

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
    when,
)

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem; }
h1 { font-size: 1.35rem; margin: 0 0 .4rem; }
p { margin: .1rem 0; color: #444; }
ul { margin: .8rem 0 1.2rem; padding-left: 1.2rem; }
.frame { overflow-x: auto; border: 1px solid #ddd; border-radius: 6px; }
table { border-collapse: separate; border-spacing: 1px; font-size: 13px; }
th, td { padding: .25rem .5rem; text-align: center; white-space: nowrap; }
th { font-weight: 500; background: #fff; }
td:first-child, th:first-child { position: sticky; left: 0; background: #fff; text-align: left; }
td.expected { color: #777; text-align: left; }
td small { display: block; font-size: 11px; min-height: 1.3em; }
td b { font-weight: 700; }
thead th { color: #444; font-size: 12px; vertical-align: bottom; }
tfoot td { border-top: 1px solid #ddd; }
.key { margin-top: .8rem; font-size: 13px; color: #666; }
.key i { display: inline-block; width: 1.6em; height: .9em; border-radius: 2px; }
"""
_TOLD: Final = 0.005


def page(explained: Explanation) -> str:
    """The whole table: every field, every event of the window."""
    title, *lines = (escape(line) for line in summary(explained))
    strongest = max((field.strongest for field in explained.fields), default=0.0) or 1.0
    heads = "".join(_heading(act, explained) for act in explained.acts)
    body = "".join(
        f"<tr><th scope=row>{escape(plain(field.name))}</th>"
        f"<td class=expected>{escape(plain(field.cells[0].expected))}</td>"
        + "".join(_cell(cell, strongest) for cell in field.cells)
        + "</tr>\n"
        for field in explained.fields
    )
    sums = "".join(f"<td>{percent(act.share)}</td>" for act in explained.acts)
    without = "".join(
        f"<td>{'' if act.without is None else f'{act.without:.3f}'}</td>" for act in explained.acts
    )
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8><title>{escape(plain(explained.event_id))}: {title}</title>
<meta name=viewport content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
{"".join(f"<p>{line}</p>" for line in lines)}
<ul>{"".join(f"<li>{escape(line.strip())}</li>" for line in reasons(explained))}</ul>
<div class=frame><table>
<thead><tr><th></th><th>expected</th>{heads}</tr></thead>
<tbody>
{body}</tbody>
<tfoot><tr><td>all fields</td><td></td>{sums}</tr>
<tr><td>score without the event</td><td></td>{without}</tr></tfoot>
</table></div>
<p class=key>{_key(1)} speaks for an anomaly, {_key(-1)} against one, in percent of all that speaks
for one. Bold: outside of what is expected, where 5 to 95 % of normal events lay. Newest event
first; a column's heading says more when pointed at.</p>
</body></html>
"""


def _heading(act: Act, explained: Explanation) -> str:
    told = "; ".join(f"{name} {value}" for name, value in act.told.items())
    title = escape(plain(f"{act.event_id}, {when(act.at_ms)}; {told}"), quote=True)
    item = escape(shortened_id(act.told.get("item_id", ""), 14))
    kind = escape(plain(act.type))
    return f'<th scope=col title="{title}">{kind}<br>{ago(act, explained)}<br>{item}</th>'


def _cell(cell: Cell, strongest: float) -> str:
    shade = colour(cell.share / strongest)
    ink = "#fff" if dark(shade) else "#222"
    observed = escape(plain(cell.observed))
    if cell.unusual:
        observed = f"<b>{observed}</b>"
    share = percent(cell.share) if abs(cell.share) >= _TOLD else ""
    style = f"background:rgb{shade};color:{ink}".replace(" ", "")
    return f'<td style="{style}">{observed}<small>{share}</small></td>'


def _key(strength: float) -> str:
    return f'<i style="background:rgb{colour(strength)}"></i>'
