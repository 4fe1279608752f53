"""`shopsentry pseudonym`: which name stands for which user."""

from __future__ import annotations

import sys

import typer

from stream_app.commands import settings_of
from stream_app.core.errors import Misconfigured


def pseudonym(context: typer.Context) -> None:
    """Read user ids, one a line, from stdin; write each after the name that stands for it.

    Needs privacy.key. No user id is taken as an argument: others on this machine see those.
    """
    names = settings_of(context).privacy.pseudonyms()
    if names is None:
        raise Misconfigured("privacy.key (SHOPSENTRY_PRIVACY__KEY) is not set: nobody has a name")
    for line in sys.stdin:
        user = line.removesuffix("\n")
        typer.echo(f"{names.of(user)}\t{user}")
