"""`shopsentry explain`: why an event scored as it did."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands import settings_of
from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.dataset import Dataset
    from models.explain.explanation import Explanation
    from stream_app.core.messages import AlertData


def explain(
    context: typer.Context,
    source: Annotated[
        Path, typer.Option("--in", help="Events, one JSON object a line, in arrival order.")
    ],
    event: Annotated[str | None, typer.Option(help="Id of the event to explain.")] = None,
    alert: Annotated[
        Path | None,
        typer.Option(help="Or an alert, as `shopsentry alerts --json` shows it; - for stdin."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model bundle; else as in the settings.")
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier events that fill the windows; may be repeated."),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Integrated gradients: slower, and what they say adds up."),
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the table into this file.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the whole table as a page into this file.")
    ] = None,
    fields: Annotated[int, typer.Option(help="Rows of the table shown here.", min=1)] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it as one JSON object instead.")
    ] = False,
) -> None:
    """Show what an event's score leans on: field by event, expected against observed."""
    settings = settings_of(context).but("scorer", bundle=model)
    if (event is None) == (alert is None):
        raise Misconfigured("say which event: --event ID, or --alert FILE")
    paths = [*(history or []), source]
    for path in paths:
        if not path.is_file():
            raise Misconfigured(f"{path} is no file; --in and --history take files of JSON lines")
    for out in (png, html):
        if out is not None and out.exists() and any(out.samefile(path) for path in paths):
            raise Misconfigured(f"{out} is a file to be read as well; name another")
    said = _alert(alert) if alert is not None else None
    event_id = said.event_id if said is not None else str(event)

    from models.bundle import load  # seconds: what is wrong is told before
    from models.dataset import read

    chosen = settings.scorer
    bundle = load(chosen.bundle, chosen.device, chosen.members, chosen.trusted_keys)
    with _working(f"reading {source.name}"):
        data = read(paths, [], bundle.schema, settings.window.policy(bundle.schema.window))
    found = _explained(bundle, data, paths, event_id, deep)
    if said is not None:
        _compare(said, found)
    if png is not None:
        from models.explain.picture import draw

        draw(found, png)
    if html is not None:
        from models.explain.page import page

        try:
            html.write_text(page(found), "utf-8")
        except OSError as error:
            raise Misconfigured(f"{html} cannot be written: {error.strerror}") from error
    _show(found, fields, as_json)


def _explained(
    bundle: Bundle, data: Dataset, paths: list[Path], event_id: str, deep: bool
) -> Explanation:
    from models.explain.explanation import explain, window_events
    from models.explain.lookup import look_up

    try:
        at = data.event_ids.index(event_id)
    except ValueError:
        raise Misconfigured(
            f"event {event_id} is not among the {len(data):,} events of the files "
            f"({data.put_aside:,} lines were put aside: malformed, late or duplicate)"
        ) from None
    ids = {data.event_ids[place] for place in window_events(data, at).tolist()}
    known = look_up(paths, data.users[int(data.user[at])], ids, bundle.schema.tasks)
    with _working("explaining"):
        return explain(bundle, data, at, known, "path" if deep else "gradient")


def _alert(path: Path) -> AlertData:
    """Raises Misconfigured unless there is one alert."""
    from stream_app.edges.alert_feed import decoded

    try:
        text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    found = decoded(text)
    if found is None:
        lines = [line for line in text.splitlines() if line.strip()]
        told = f"{len(lines)} lines; --alert takes one" if len(lines) > 1 else "no alert"
        name = "what came on stdin" if str(path) == "-" else str(path)
        raise Misconfigured(f"{name} is {told}: a JSON object as on the alert topic")
    return found.data


def _compare(said: AlertData, found: Explanation) -> None:
    """Tell where this is not the score that the alert was made of."""
    if said.model != found.model:
        typer.echo(f"note: the alert was made by {said.model}, this is {found.model}", err=True)
    elif abs(said.score - found.score) > 1e-3:
        typer.echo(
            f"note: the alert has the score {said.score:.3f}, here it is {found.score:.3f}: the "
            "files do not hold the window of then, or hold it in another order",
            err=True,
        )


def _working(what: str) -> AbstractContextManager[object]:
    from rich.console import Console

    return Console(stderr=True).status(what)


def _show(found: Explanation, fields: int, as_json: bool) -> None:
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    from rich.console import Console

    from models.explain.terminal import render

    console = Console(highlight=False)
    console.print(render(found, console.width, fields))
