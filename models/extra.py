"""Packages that the running system does without, and training, tuning and judging need."""

from __future__ import annotations

from typing import Final

from stream_app.core.errors import Misconfigured

HOW: Final = "pip install 'shopsentry[train]', or scripts/setup train in a checkout"


def missing(what: str, package: str) -> Misconfigured:
    """To be raised where an import failed; `what` wanted the package."""
    return Misconfigured(f"{what} needs {package}: {HOW}")
