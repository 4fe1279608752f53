"""What a training is asked to do, kept beside its checkpoints: it goes on only with the same."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import xxhash

from stream_app.core.errors import Misconfigured

FOLDER: Final = ".training"
_FILE: Final = "arguments.json"
_CHUNK: Final = 1 << 24  # bytes


class Session:
    """A training in `out`, broken off or new."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / FOLDER

    def begin(self, arguments: dict[str, Any], files: Sequence[Path], fresh: bool) -> bool:
        """Whether there is something to go on with.

        `fresh` forgets what there is. Raises Misconfigured if that was asked something else, if a
        file cannot be read, or if nothing can be written here.
        """
        asked = {**arguments, "files": [content(path) for path in files]}
        try:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)  # or it would be for nothing
            path = self.folder / _FILE
            if path.exists():
                self._compare(msgspec.json.decode(path.read_bytes()), asked)
                return True
            path.write_bytes(msgspec.json.format(msgspec.json.encode(asked), indent=1))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Misconfigured(
                f"{self.folder} is damaged: begin anew with --fresh, or delete it"
            ) from error
        except OSError as error:
            raise Misconfigured(f"{self.out} cannot be written: {error.strerror}") from error
        return False

    def _compare(self, before: Any, asked: dict[str, Any]) -> None:
        if told := different(before, asked):
            raise Misconfigured(
                f"{self.out} has a training that was broken off and was asked something else "
                f"(other: {told}). Ask the same to go on with it, or begin anew with --fresh."
            )

    def end(self) -> None:
        """It is done: there is nothing to go on with."""
        shutil.rmtree(self.folder, ignore_errors=True)


def different(before: dict[str, Any], asked: dict[str, Any]) -> str:
    """What is asked otherwise than before, in words; "" if nothing is."""
    now = msgspec.json.decode(msgspec.json.encode(asked))
    other = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
    return ", ".join("the content of a file" if k == "files" else k for k in other)


def content(path: Path) -> str:
    """A file's name and a hash of it. Raises Misconfigured if it cannot be read."""
    digest = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    return f"{path.name} {digest.hexdigest()}"
