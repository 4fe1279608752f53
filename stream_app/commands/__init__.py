"""The commands, one module for each group; `stream_app.cli` names them.

A module is imported only when its command runs, so what it imports costs no other command. It has
no logic of its own: it reads settings, calls an edge, and shows what came back.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import typer

    from stream_app.edges.sender import Sender
    from stream_app.settings import Settings

T = TypeVar("T")


class Invocation(NamedTuple):
    """What stands before the command's name; the context's `obj`."""

    config: Path | None = None
    debug: bool = False


def invocation(context: typer.Context) -> Invocation:
    return context.obj if isinstance(context.obj, Invocation) else Invocation()


def settings_of(context: typer.Context) -> Settings:
    """The settings in force for this call. Raises Misconfigured."""
    from stream_app.settings import load

    return load(invocation(context).config)


def names_of(text: str | None) -> tuple[str, ...] | None:
    """`a, b` as an option has it -> a, b."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def done(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine of aiokafka's to its end, without the client's own words on stderr."""
    import asyncio
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    return asyncio.run(work)


def ensured_input(settings: Settings, topic: str) -> int:
    """Partitions of `topic`, made if it is missing and may be. Raises Misconfigured."""
    from stream_app.edges.kafka_admin import ensure_topics

    kafka = settings.kafka
    counts = done(
        ensure_topics(
            kafka.aiokafka(),
            [topic],
            {},
            create=kafka.create_topics,
            partitions=kafka.partitions,
            replication=kafka.replication,
            max_record_bytes=kafka.max_record_bytes,
        )
    )
    return counts[topic]


@contextmanager
def progress_of(what: str, sender: Sender, total: int | None = None) -> Iterator[None]:
    """A line on stderr with count and rate while the body runs; none if nobody watches."""
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.text import Text

    class Sent(ProgressColumn):
        def render(self, task: Task) -> Text:
            rate = sender.delivered / task.elapsed if task.elapsed else 0
            of = f" of {total:,}" if total is not None else ""
            return Text(f"{sender.delivered:,}{of} delivered, {rate:,.0f}/s")

    console = Console(stderr=True)
    shown = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), Sent(), console=console, transient=True
    )
    if not console.is_terminal:
        yield
        return
    with shown:
        shown.add_task(what, total=None)
        yield
