"""All settings as people see them: what they mean, what they are, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from stream_app.settings.loading import PREFIX, Settings, known_settings, names_in, read_file
from stream_app.settings.parts import RedisSettings
from stream_app.settings.section import HERE, MASK, Section


class Setting(NamedTuple):
    """One setting, for people. `default` and `value` are as they may be shown."""

    name: str  # kafka.bootstrap
    env: str  # SHOPSENTRY_KAFKA__BOOTSTRAP
    default: str
    meaning: str
    value: str
    source: str  # default, file or environment


def listing(settings: Settings | None = None, file: Path | None = None) -> list[Setting]:
    """Every setting, in order, secrets masked. Without `settings`: as by default."""
    defaults = Settings.model_construct()
    content = set(names_in(read_file(file))) if settings is not None else set()
    names = {name.upper() for name in os.environ} if settings is not None else set()
    found = []
    for name, field in known_settings().items():
        section, _, key = name.partition(".")
        env = f"{PREFIX}{section}__{key}".upper()
        source = "environment" if env in names else "file" if name in content else "default"
        found.append(
            Setting(
                name,
                env,
                _display(getattr(defaults, section), field[0]),
                field[1],
                _display(getattr(settings or defaults, section), field[0]),
                source,
            )
        )
    return found


def _display(section: Section, attribute: str) -> str:
    value = getattr(section, attribute)
    if isinstance(section, RedisSettings) and attribute == "url":
        return section.shown_url
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Path):
        return str(value.relative_to(HERE) if value.is_relative_to(HERE) else value)
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
