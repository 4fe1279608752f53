"""The report as Markdown and as one page of HTML that needs nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from models.evaluate.cells import Table, detail, difference, figure, share
from models.evaluate.panel import AP, LOOK_ALIKE_AUC
from models.evaluate.plots import Plot
from models.evaluate.run import Evaluation

_STYLE: Final = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1f24;
  background: #f6f7f9; margin: 0 }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 18px; margin: 34px 0 8px }
p { margin: 6px 0; max-width: 90ch } .quiet { color: #57606a; font-size: 13.5px }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px;
  margin: 20px 0 }
.card, figure, .table { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px }
.card { padding: 12px 16px } .card b { display: block; font-size: 25px; font-weight: 600 }
.card span { color: #57606a; font-size: 13px }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr));
  gap: 14px }
figure { margin: 0; padding: 14px 16px } figure.wide { grid-column: 1 / -1 }
figure h3 { margin: 0 0 6px; font-size: 15px } figure svg { width: 100%; height: auto }
figcaption { color: #57606a; font-size: 13px }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: 13.5px }
th, td { padding: 6px 12px; text-align: left; border-top: 1px solid #eceff2; white-space: nowrap;
  font-variant-numeric: tabular-nums }
thead th { border-top: 0; color: #57606a; font-weight: 600; white-space: normal;
  vertical-align: bottom }
.warning { background: #fff8e6; border: 1px solid #f0d48a; border-radius: 8px; padding: 8px 16px }
code { font: 13px ui-monospace, Consolas, monospace; overflow-wrap: anywhere }
pre { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 12px 16px;
  white-space: pre-wrap }
"""
_HOW: Final = (
    "Every event is scored as of itself, as the stream would: no score sees what came later. "
    "Intervals are percentiles of a bootstrap that draws users and campaigns, each with all their "
    "events (clean events by user, anomalies by campaign, and among seeds where there are "
    "several); all detectors see the same resamples, so differences are paired. Figures are means "
    "over draws and seeds, never pooled across them. The average precision at 1 % prevalence gives "
    "normal events more weight, as if more of the same had come; it cannot know how scores would "
    "change if campaigns were fewer."
)


def markdown(evaluation: Evaluation, tables: Sequence[Table]) -> str:
    lines = ["# Evaluation", "", _about(evaluation), ""]
    lines += [f"- **{what}**: {value}" for what, value in _headline(evaluation)]
    lines += ["", *(f"> {note}" for note in _warnings(evaluation))]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        lines.append(_row(table.head))
        lines.append(_row(["---"] * len(table.head)))
        lines += [_row(row) for row in table.rows]
        lines += ["", table.note] if table.note else []
    lines += ["", "## How it was measured", "", _HOW, *_bulleted(evaluation.notes)]
    lines += ["", "## What made it", "", "```", evaluation.command, "```", ""]
    lines += [f"- {line}" for line in _made_by(evaluation)]
    return "\n".join(lines) + "\n"


def html(evaluation: Evaluation, tables: Sequence[Table], plots: Iterable[Plot]) -> str:
    reference = evaluation.report.reference
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation of {escape(reference)}</title><style>{_STYLE}</style></head>",
        f"<body><main><h1>Evaluation of {escape(reference)}</h1>",
        f'<p class="quiet">{escape(_about(evaluation))}</p>',
        '<div class="cards">',
        *(
            f'<div class="card"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
            for what, value in _cards(evaluation)
        ),
        "</div>",
        *(f'<p class="warning">{escape(note)}</p>' for note in _warnings(evaluation)),
        '<div class="plots">',
        *(_plot(plot) for plot in plots),
        "</div>",
        *(_table(table) for table in tables),
        f"<h2>How it was measured</h2><p>{escape(_HOW)}</p>",
        *(f"<p>{escape(note)}</p>" for note in evaluation.notes),
        f"<h2>What made it</h2><pre><code>{escape(evaluation.command)}</code></pre>",
        *(f'<p class="quiet"><code>{escape(line)}</code></p>' for line in _made_by(evaluation)),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _about(evaluation: Evaluation) -> str:
    counts = evaluation.report.counts
    first, last = (
        datetime.fromtimestamp(counts[at] / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        for at in ("first_ms", "last_ms")
    )
    kind = "simulated" if evaluation.simulated else "labelled"
    draws = "" if counts["draws"] == 1 else f" in {counts['draws']} {kind} draws"
    return (
        f"{counts['events']:,} events of {counts['users']:,} users{draws}, {first} to {last} UTC; "
        f"{counts['anomalies']:,} anomalous ({share(counts['prevalence'])}) in "
        f"{counts['campaigns']:,} campaigns; {sum(counts['look_alikes'].values()):,} events of "
        f"honest look-alikes. {evaluation.report.bootstrap:,} resamples."
    )


def _cards(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    for what, value in _headline(evaluation):
        plain, _, interval = value.partition(" [")
        yield (f"{what} [{interval}" if interval else what), plain


def _headline(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    report = evaluation.report
    own = report.detectors[report.reference]
    yield f"average precision of {report.reference}", figure(own.figures[AP])
    others = [name for name in report.detectors if name != report.reference]
    if others:
        best = max(others, key=lambda name: report.figure(name, AP).value)
        gap = report.differences[best][AP].misses_removed
        yield f"of the misses of {best}, the strongest other, removed", difference(gap)
    yield "recall with 0.1 % of clean events alerted", figure(own.figures["recall@0.1%"])
    found = own.figures.get("campaigns@10/1000users")
    if found is not None:
        yield "campaigns found, 10 of 1,000 clean users alerted", figure(found)
    hard = own.groups.get("difficulty", {}).get("hard", {})
    if LOOK_ALIKE_AUC in hard:
        yield "ROC-AUC of hard attacks against look-alikes", figure(hard[LOOK_ALIKE_AUC])
    if told := own.details.get("calibration"):
        yield "expected calibration error", detail(told, "expected_calibration_error", 4)


def _warnings(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.simulated:
        yield evaluation.simulated
    for at, told in enumerate(evaluation.leaks, 1):
        if told["leaks"]:
            yield (
                f"Draw {at} leaks: a single raw field tells {told['against']} from normal events "
                f"({', '.join(told['leaks'])}). Figures on them are too good for every detector."
            )
    positives = evaluation.report.counts["campaigns"]
    if positives < 30:
        yield f"Only {positives} campaigns: intervals are wide, and percentiles of them rough."


def _made_by(evaluation: Evaluation) -> Iterator[str]:
    yield ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    for name, versions in evaluation.models.items():
        yield f"{name}: {', '.join(versions)}"
    for file, digest in evaluation.files.items():
        yield f"{digest}  {file}"


def _bulleted(notes: Sequence[str]) -> list[str]:
    return ["", *(f"- {note}" for note in notes)] if notes else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plot(plot: Plot) -> str:
    wide = ' class="wide"' if plot.wide else ""
    return (
        f"<figure{wide}><h3>{escape(plot.title)}</h3>{plot.svg}"
        f"<figcaption>{escape(plot.note)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in table.rows
    )
    note = f'<p class="quiet">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )
