"""`shopsentry evaluate`: how good bundles and baselines are, with a report folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.core.errors import Misconfigured

if TYPE_CHECKING:
    from models.evaluate.run import Evaluation, Model


def evaluate(
    test: Annotated[
        list[Path],
        typer.Option(help="Events to judge, in arrival order; repeatable: each a labelled draw."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and report.json.")],
    test_labels: Annotated[
        list[Path] | None,
        typer.Option(
            help='Truth of a draw, lines of {"event_id", "label"}; one for each --test. Without, '
            "truth is simulated."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="FOLDER or NAME=FOLDER of a bundle; repeatable. The first is compared with all "
            "others; several of one name are seeds of one model."
        ),
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge these members of the first bundle as well, as the mean of NAME,NAME,…; "
            "repeatable. `each`: every one alone, and all but each."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier events, that fill windows and fit baselines; repeatable."),
    ] = None,
    labels: Annotated[list[Path] | None, typer.Option(help="Truth of --data; repeatable.")] = None,
    valid: Annotated[
        list[Path] | None,
        typer.Option(
            help="Later events to learn from and set limits on; repeatable: each a labelled draw. "
            "The first comes before --test."
        ),
    ] = None,
    valid_labels: Annotated[
        list[Path] | None, typer.Option(help="Truth of --valid; one for each.")
    ] = None,
    simulate: Annotated[
        int,
        typer.Option(
            help="Draws with simulated attacks where there are no labels: of each --test to judge "
            "by, of --data to fit baselines to; 0: none.",
            min=0,
        ),
    ] = 2,
    baselines: Annotated[
        str, typer.Option(help="all (that labels allow), none, or NAME,NAME,…")
    ] = "all",
    settings: Annotated[
        list[Path] | None,
        typer.Option(help="Settings of baselines, as `tune --of` writes them; repeatable."),
    ] = None,
    unseen: Annotated[
        str,
        typer.Option(help="Families that training had not, NAME,NAME,…; else told by --labels."),
    ] = "",
    schema: Annotated[str, typer.Option(help="Without --model: a schema's name or file.")] = "shop",
    bootstrap: Annotated[
        int, typer.Option(help="Resamples of users and campaigns; 0: no intervals.", min=0)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of baselines and resamples.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(help="Times that each baseline is fitted.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="What models run on: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of baselines.", min=1)] = 1,
) -> None:
    """Judge models and baselines on events that no training saw, by labels or simulated attacks."""
    from models.evaluate import folder
    from models.evaluate.inputs import Inputs
    from models.evaluate.run import Request
    from models.evaluate.run import evaluate as run

    request = Request(
        inputs=Inputs(
            data=tuple(data or ()),
            labels=tuple(labels or ()),
            valid=tuple(valid or ()),
            valid_labels=tuple(valid_labels or ()),
            tests=tuple(test),
            test_labels=tuple(test_labels or ()),
            simulate=simulate,
        ),
        models=_models(model or [], members or []),
        baselines=None if baselines == "all" else _names("" if baselines == "none" else baselines),
        settings=tuple(settings or ()),
        schema=schema,
        unseen=_names(unseen),
        seed=seed,
        seeds=seeds,
        bootstrap=bootstrap,
        device=device,
        threads=threads,
        command=shlex.join(["shopsentry", *sys.argv[1:]]),
    )
    request.check()
    folder.prepare(out)
    with _progress() as progress:
        found = run(request, progress)
    folder.write(out, found)
    _tell(found, out / folder.PAGE)


def _models(given: list[str], members: list[str]) -> tuple[Model, ...]:
    from models.evaluate.run import Model

    found: list[Model] = []
    for text in given:
        name, equals, place = text.partition("=")
        path = Path(place if equals else text)
        found.append(Model(name=name if equals else path.resolve().name, folder=path))
    if members and not found:
        raise Misconfigured("--members are those of a --model: give one")
    first = found[:1]
    for subset in members:
        for names in _subsets(first[0].folder) if subset == "each" else [_names(subset)]:
            told = f"{first[0].name}: {' + '.join(names)}"
            found.append(Model(name=told, folder=first[0].folder, members=names))
    return tuple(found)


def _subsets(folder: Path) -> list[tuple[str, ...]]:
    """Every member alone, and all without each."""
    from models import bundle as bundles

    names = bundles.load(folder, "cpu").members.names
    alone = [(name,) for name in names]
    without = [tuple(n for n in names if n != name) for name in names]
    return list(
        dict.fromkeys(some for some in [*alone, *without] if some and len(some) < len(names))
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; nothing if nobody watches."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, of: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def _tell(found: Evaluation, page: Path) -> None:
    from models.evaluate.cells import difference, figure
    from models.evaluate.panel import AP

    report = found.report
    if found.simulated:
        typer.echo("truth is simulated: attacks spliced into events that nobody labelled")
    width = max(map(len, report.detectors))
    typer.echo(f"average precision, of chance {report.counts['prevalence']:.4f}:")
    for name, one in report.detectors.items():
        gap = report.differences.get(name, {}).get(AP)
        less = (
            f"   {report.reference} removes {difference(gap.misses_removed)} of its misses"
            if gap
            else ""
        )
        typer.echo(f"  {name:{width}}  {figure(one.figures[AP])}{less}")
    for told in found.leaks:
        for field, area in told["leaks"].items():
            typer.echo(
                f"warning: {field} alone gives {told['against']} away (AUC {area})", err=True
            )
    typer.echo(f"wrote {page}")
