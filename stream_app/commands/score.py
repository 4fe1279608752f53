"""`shopsentry score`: a file of events, scored as the stream would."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from stream_app.commands import names_of, settings_of
from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from rich.progress import Progress

    from stream_app.offline import OfflineScorer, Totals


def score(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Option("--in", help="Events in arrival order, JSON lines or Parquet."),
    ],
    out: Annotated[
        Path, typer.Option(help="Where scores go, one JSON object a line; - for stdout.")
    ],
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model bundle; else as in the settings.")
    ] = None,
    campaigns: Annotated[
        Path | None,
        typer.Option(help="Where news of campaigns go, as they would be in Kafka, one a line."),
    ] = None,
    members: Annotated[
        str | None,
        typer.Option(help="Members of the bundle that score, with commas between; else all."),
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier events that fill the windows unscored; may be repeated."),
    ] = None,
) -> None:
    """Score a file offline with the stream's own functions."""
    settings = settings_of(context).but("scorer", bundle=model, members=names_of(members))
    for path in (source, *(history or [])):
        _check(path, out)
        if campaigns is not None:
            _check(path, campaigns)

    from stream_app.wiring import offline_scorer  # seconds: what is wrong is told before

    scorer = offline_scorer(settings)
    with _opened(out) as written:
        asyncio.run(_score(scorer, source, history or [], written))
    if campaigns is not None:
        with _opened(campaigns) as told:
            told.writelines(news + b"\n" for news in scorer.campaigns)
    _tell(scorer.totals)


async def _score(
    scorer: OfflineScorer, source: Path, history: list[Path], written: BinaryIO
) -> None:
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    encode = msgspec.json.Encoder().encode
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for path in history:
            async for _ in scorer.remember(_lines(path, f"reading {path.name}", progress)):
                pass
        lines = _lines(source, f"scoring {source.name}", progress)
        async for group in scorer.score(lines):
            written.writelines(encode(judged) + b"\n" for judged in group)


def _lines(path: Path, what: str, progress: Progress) -> Iterator[bytes]:
    from models.lines import read

    task = progress.add_task(what, total=1.0)
    return read([path], lambda share: progress.update(task, completed=share))


def _check(path: Path, out: Path) -> None:
    """Raises Misconfigured if `path` cannot be read, or would be lost by writing `out`."""
    if not path.is_file():
        raise Misconfigured(f"{path} is no file; --in and --history take files of events")
    if out.exists() and out.samefile(path):
        raise Misconfigured(f"--out {out} is a file to be read as well; name another")
    try:
        path.open("rb").close()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _opened(out: Path) -> Iterator[BinaryIO]:
    if str(out) == "-":
        yield sys.stdout.buffer
        return
    try:
        with out.open("wb") as written:
            yield written
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from error


def _tell(totals: Totals) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in totals.outcomes.items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in totals.dead.most_common())
    why = f" ({reasons})" if reasons else ""
    told = f"{totals.alerts} alerts, {totals.campaigns} news of campaigns"
    typer.echo(f"{counts}; {told}{why}", err=True)
