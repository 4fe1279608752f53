"""From environment and file to `Settings`, or a word on what is wrong with them."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stream_app.core.errors import Misconfigured
from stream_app.settings.kafka import KafkaSettings
from stream_app.settings.parts import (
    AlertSettings,
    CampaignSettings,
    FlowSettings,
    LogSettings,
    PrivacySettings,
    RedisSettings,
    ScorerSettings,
    WebSettings,
    WindowSettings,
)
from stream_app.settings.section import Section

PREFIX: Final = "SHOPSENTRY_"
CONFIG: Final = "SHOPSENTRY_CONFIG"  # names the file; no setting itself

# Kubernetes puts these into every pod for a service whose name begins with shopsentry.
_service_link = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")


class Settings(BaseSettings):
    """All sections. Made by `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    window: WindowSettings = WindowSettings()
    alerts: AlertSettings = AlertSettings()
    campaigns: CampaignSettings = CampaignSettings()
    scorer: ScorerSettings = ScorerSettings()
    flow: FlowSettings = FlowSettings()
    web: WebSettings = WebSettings()
    privacy: PrivacySettings = PrivacySettings()
    log: LogSettings = LogSettings()

    def but(self, section: str, **values: object) -> Self:
        """With values of a section replaced, as a command's options ask; None replaces none."""
        given = {name: value for name, value in values.items() if value is not None}
        changed = getattr(self, section).model_copy(update=given)
        return self.model_copy(update={section: changed})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # what `load` passes in is the file


def load(file: Path | None = None) -> Settings:
    """The settings in force. `file` goes before the one that SHOPSENTRY_CONFIG names.

    Raises Misconfigured.
    """
    content = read_file(file)
    known = known_settings()
    for name in names_in(content):
        if name not in known and not _is_section_error(name, content):
            raise Misconfigured(f"{_file(file)}: there is no setting {name}{_nearest(name, known)}")
    _check_environment(known)
    try:
        return Settings(**content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"][:2])
        told = first["msg"].removeprefix("Value error, ")
        raise Misconfigured(f"{name}{_origin(name, file)}: {told[0].lower()}{told[1:]}") from None


def known_settings() -> dict[str, tuple[str, str]]:
    """Name of each setting -> its attribute and its meaning."""
    found = {}
    for section, outer in Settings.model_fields.items():
        assert isinstance(outer.annotation, type)
        assert issubclass(outer.annotation, Section)
        for attribute, field in outer.annotation.model_fields.items():
            found[f"{section}.{field.alias or attribute}"] = (attribute, field.description or "")
    return found


def _file(given: Path | None) -> Path | None:
    named = os.environ.get(CONFIG)
    return given or (Path(named) if named else None)


def read_file(given: Path | None) -> dict[str, Any]:
    """The content of the file that is named, if one is. Raises Misconfigured."""
    path = _file(given)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the settings file {path} is not TOML: {error}") from None


def names_in(content: Mapping[str, Any]) -> Iterator[str]:
    """As `kafka.bootstrap`."""
    for section, values in content.items():
        if isinstance(values, Mapping):
            yield from (f"{section}.{key}" for key in values)
        else:
            yield section


def _is_section_error(name: str, content: Mapping[str, Any]) -> bool:
    """`kafka = 3`: a section's name without a table; pydantic tells that better."""
    return name in Settings.model_fields and not isinstance(content[name], Mapping)


def _check_environment(known: Mapping[str, object]) -> None:
    names = {PREFIX + name.replace(".", "__").upper() for name in known}
    for name, value in os.environ.items():
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper == CONFIG or upper in names:
            continue
        if upper.startswith(f"{PREFIX}TEST_"):  # for the tests, which also run our commands
            continue
        if _service_link.search(upper) or re.match(r"(tcp|udp|sctp)://", value):
            continue
        raise Misconfigured(f"environment: there is no setting {name}{_nearest(upper, names)}")


def _nearest(name: str, known: Sequence[str] | Mapping[str, object] | set[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    if not near and "." in name:  # right name, wrong section
        key = name.partition(".")[2]
        near = [other for other in known if other.partition(".")[2] == key][:1]
    return f"; did you mean {near[0]}?" if near else "; `shopsentry config` lists all"


def _origin(name: str, file: Path | None) -> str:
    """Where the value of a setting comes from, so that people know what to change."""
    env = PREFIX + name.replace(".", "__").upper()
    if any(env == other.upper() for other in os.environ):
        return f" (environment: {env})"
    path = _file(file)
    return f" ({path})" if path else ""
