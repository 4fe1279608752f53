"""The commands, one module for each group; `stream_app.cli` names them.

A module is imported only when its command runs, so what it imports costs no other command. It has
no logic of its own: it reads settings, calls an edge, and shows what came back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import typer

    from stream_app.settings import Settings


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
