"""Where results go: whether they can be written is told before the work, and in words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_app.core.errors import Misconfigured


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises Misconfigured if something in the block cannot be written."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise Misconfigured(f"{path} cannot be written: {why}") from error


def check_folder(folder: Path) -> None:
    """Whether it can be made and written into; nothing of it stays. Raises Misconfigured."""
    with writing(folder):
        places = (folder, *folder.absolute().parents)
        nearest = next(place for place in places if place.is_symlink() or place.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
