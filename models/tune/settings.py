"""Settings as TOML, a table for each that was tuned: `[train]`, `[stack]`, ..."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from stream_app.core.errors import Misconfigured

TRAIN: Final = "train"  # the table of the encoder's training


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Settings by table. Raises Misconfigured if it is no such file."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is no TOML: {error}") from error
    for name, settings in found.items():
        if not isinstance(settings, dict):
            raise Misconfigured(f"{path}: {name} stands in no table: write [{TRAIN}] above it")
    return found


def table(path: Path, name: str) -> dict[str, Any]:
    """One table. Raises Misconfigured if it is not there."""
    found = read(path)
    if name not in found:
        there = ", ".join(f"[{other}]" for other in found) or "nothing"
        raise Misconfigured(f"{path} has no table [{name}], but {there}")
    return found[name]


def together(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Settings by table, of several files. Raises Misconfigured if two of them have the same."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for name, settings in read(path).items():
            if name in found:
                raise Misconfigured(f"{path}: another file has settings of [{name}] as well")
            found[name] = settings
    return found


def text(name: str, settings: Mapping[str, float], told: Sequence[str] = ()) -> str:
    """A file with this table alone; `told` are lines about it. Numbers are exact."""
    lines = [f"# {line}" for line in told]
    lines += [f"[{name}]", *(f"{key} = {value!r}" for key, value in settings.items())]
    return "\n".join(lines) + "\n"
