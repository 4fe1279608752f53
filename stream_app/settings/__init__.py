"""Settings: environment over file over defaults, one small struct for each part of the system.

`SHOPSENTRY_KAFKA__BOOTSTRAP` goes over `bootstrap` under `[kafka]` in the TOML file, which goes
over the default. A name that no setting has is refused, with the nearest that there is. Only the
commands and `wiring` import this; each part gets its own section, or what a section makes of it.

    section    what a section is
    kafka      [kafka]
    parts      all other sections
    loading    environment and file -> Settings
    listing    Settings -> what `shopsentry config` shows
"""

from stream_app.settings.kafka import KafkaSettings
from stream_app.settings.listing import Setting, listing
from stream_app.settings.loading import PREFIX, Settings, load
from stream_app.settings.parts import (
    RedisSettings,
    ScorerSettings,
    WebSettings,
    WindowSettings,
)
from stream_app.settings.section import HERE, MASK

__all__ = [
    "HERE",
    "MASK",
    "PREFIX",
    "KafkaSettings",
    "RedisSettings",
    "ScorerSettings",
    "Setting",
    "Settings",
    "WebSettings",
    "WindowSettings",
    "listing",
    "load",
]
