"""The `shopsentry` command: which commands there are, and what an error looks like.

A command is one line in `COMMANDS`: its name, where its function (or a `typer.Typer` with commands
of its own) is, and its line in `--help`. It is imported when it runs, and only then.

Exit codes: 0 fine, 1 found trouble, 2 wrong use or settings, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from stream_app.commands import Invocation, invocation
from stream_app.core.errors import Misconfigured, ShopsentryError


class Command(NamedTuple):
    place: str  # module:name of a function, or of a typer.Typer
    line: str  # in `shopsentry --help`


COMMANDS = {
    "demo": Command("stream_app.commands.demo:demo", "Watch a simulated shop, all in one go."),
    "worker": Command("stream_app.commands.worker:worker", "Score what arrives, until stopped."),
    "produce": Command("stream_app.commands.produce:produce", "Send a file's events to Kafka."),
    "alerts": Command("stream_app.commands.alerts:alerts", "Follow the alerts."),
    "score": Command("stream_app.commands.score:score", "Score a file offline."),
    "simulate": Command("stream_app.commands.simulate:simulate", "Write a shop's events to files."),
    "prepare": Command("stream_app.commands.prepare:prepare", "Clean raw logs and split them."),
    "train": Command("stream_app.commands.train:train", "Train a model on a shop's events."),
    "tune": Command("stream_app.commands.tune:tune", "Search for better settings of a training."),
    "calibrate": Command(
        "stream_app.commands.calibrate:calibrate", "Set a model's probabilities and thresholds."
    ),
    "sign": Command("stream_app.commands.sign:sign", "Put your name to a model."),
    "compress": Command("stream_app.commands.compress:compress", "Make a model smaller."),
    "explain": Command("stream_app.commands.explain:explain", "Say why an event scored so."),
    "evaluate": Command(
        "stream_app.commands.evaluate:evaluate", "Judge models on events with known truth."
    ),
    "replay": Command("stream_app.commands.replay:replay", "Send old records again."),
    "audit": Command("stream_app.commands.audit:audit", "Prove that no record was lost."),
    "doctor": Command("stream_app.commands.doctor:doctor", "Check that everything is in place."),
    "pseudonym": Command(
        "stream_app.commands.pseudonym:pseudonym", "Tell which name stands for which user."
    ),
    "config": Command("stream_app.commands.config:config", "Show the settings in force."),
}


def load(name: str) -> Any:
    """The command, imported, as typer's group runs it."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
        found = app
    made = typer.main.get_command(found)
    made.name = name
    return made


class Registry(TyperGroup):
    """Knows the commands by their lines; imports the one that runs."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.commands = {name: TyperCommand(name, help=c.line) for name, c in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, known, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else known, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ShopsentryError as error:
            if invocation(ctx).debug:
                raise
            _end(str(error), 2 if isinstance(error, Misconfigured) else 1)
        except KeyboardInterrupt:
            _end("stopped", 130)


app = typer.Typer(cls=Registry, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def shopsentry(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings; else the one that SHOPSENTRY_CONFIG names."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Watches shop behaviour in a stream and tells, event by event, what is unusual."""
    context.obj = Invocation(config, debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process; without `arguments`, that of the command line."""
    app(arguments, prog_name="shopsentry")


def _end(text: str, code: int) -> NoReturn:
    print(f"shopsentry: {text}", file=sys.stderr)
    raise typer.Exit(code)
