"""`shopsentry worker`: takes the input topics to the output topics until it is told to stop."""

from __future__ import annotations

import logging
import logging.config
from pathlib import Path
from typing import Annotated

import typer

from stream_app.commands import invocation, names_of, settings_of


def worker(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model bundle; else as in the settings.")
    ] = None,
    members: Annotated[
        str | None,
        typer.Option(help="Members of the bundle that score, with commas between; else all."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Web port for /health and /metrics.", min=0, max=65535)
    ] = None,
) -> None:
    """Score what arrives. Ctrl-C or SIGTERM: finish what is published, commit, end."""
    settings = settings_of(context).but("scorer", bundle=model, members=names_of(members))
    settings = settings.but("web", port=port)
    debug = invocation(context).debug

    from stream_app.edges.log import logging_config  # seconds: a wrong setting is told before
    from stream_app.runner import Runner
    from stream_app.wiring import prepared_worker

    logging_of = logging_config(settings.log.level, settings.log.as_json, debug)
    logging.config.dictConfig(logging_of)
    prepared = prepared_worker(settings)
    log = logging.getLogger("shopsentry.worker")
    log.info("starting: %s", prepared.summary)
    Runner(prepared.app, logging_of, settings.log.level).run()
    log.info("stopped")
