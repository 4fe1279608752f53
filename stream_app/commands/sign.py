"""`shopsentry sign`: put one's name to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sign(
    model: Annotated[Path, typer.Option(help="Folder of the bundle; a signature is added to it.")],
    key: Annotated[Path, typer.Option(help="File with the private key, Ed25519 in PEM.")],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the key first; the file must not exist yet.")
    ] = False,
) -> None:
    """Sign a bundle, so that workers with scorer.trusted_keys load it and no altered one."""
    from models import signature

    if new_key:
        signature.make_key(key)
        typer.echo(f"made {key}: keep it where no worker is")
    version, public = signature.sign(model, key)
    typer.echo(f"signed {version}; workers trust it with SHOPSENTRY_SCORER__TRUSTED_KEYS={public}")
