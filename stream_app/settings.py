"""Settings: environment over file over defaults, one small struct for each part of the system.

`SHOPSENTRY_KAFKA__BOOTSTRAP` goes over `bootstrap` under `[kafka]` in the TOML file, which goes
over the default. A name that no setting has is refused, with the nearest that there is. Only the
commands and `wiring` import this; each part gets its own section, or what a section makes of it.
"""

from __future__ import annotations

import difflib
import os
import re
import ssl
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from stream_app.core.alerting import AlertPolicy
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.core.pseudonym import LEAST_KEY, Pseudonyms
from stream_app.core.window import WindowPolicy

if TYPE_CHECKING:
    from stream_app.edges.bearer import BearerFile

PREFIX: Final = "SHOPSENTRY_"
CONFIG: Final = "SHOPSENTRY_CONFIG"  # names the file; no setting itself
HERE: Final = Path(__file__).resolve().parent.parent  # `models` lies beside `stream_app`
MASK: Final = "********"

# Kubernetes puts these into every pod for a service whose name begins with shopsentry.
_service_link = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _split(value: object) -> object:
    """`a, b` -> [a, b]: how a list is written in an environment variable."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


AnyNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]


class Section(BaseModel):
    """A few settings that one part needs. Never changes once loaded."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


class KafkaSettings(Section):
    """Where Kafka is, how to get in, which topics."""

    bootstrap: str = Field(
        default="localhost:9092", description="brokers to ask first: host:port, ..."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how to talk to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="how to log in, with a SASL protocol"
    )
    username: str | None = Field(default=None, description="who logs in, with a SASL protocol")
    password: SecretStr | None = Field(default=None, description="the password to that")
    oauth_token_file: Path | None = Field(
        default=None, description="the token for OAUTHBEARER; read anew whenever one is needed"
    )
    ssl_cafile: Path | None = Field(
        default=None, description="PEM of the CAs to trust; else the system's"
    )
    ssl_certfile: Path | None = Field(
        default=None, description="PEM of our own certificate, for mTLS"
    )
    ssl_keyfile: Path | None = Field(default=None, description="PEM of the key to that certificate")
    ssl_key_password: SecretStr | None = Field(default=None, description="the password to that key")
    group: str = Field(
        default="shopsentry", min_length=1, description="consumer group of the workers"
    )
    input_topics: Names = Field(
        default=("shop.events",), description="topics with events, co-partitioned by user"
    )
    output_prefix: str = Field(
        default="shop.", description=f"before the output topics: {', '.join(Output)}"
    )
    delivery: Literal["at-least-once", "exactly-once"] = Field(
        default="at-least-once",
        description="whether outputs may repeat after a crash; transactions see to it if not",
    )
    create_topics: bool = Field(default=True, description="create topics that are missing")
    partitions: Count = Field(default=4, description="partitions of an input topic that we create")
    replication: Count = Field(
        default=1, description="replicas of a topic that we create; 3 in production"
    )
    session_timeout_s: Positive = Field(
        default=10.0, description="s until a silent worker is given up"
    )
    heartbeat_s: Positive = Field(
        default=1.0,
        description="s between a worker's signs of life; so late may it hear of a rebalance, which "
        "waits for all",
    )
    commit_interval_s: Positive = Field(
        default=0.25, description="s between commits of what is acked"
    )
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        default="earliest", description="where a group without offsets begins"
    )
    max_record_bytes: Count = Field(
        default=16 << 20,
        description="bytes of the largest record that topics we create take",
    )

    @field_validator("bootstrap")
    @classmethod
    def _are_hosts(cls, bootstrap: str) -> str:
        host = re.compile(r"\s*(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(:\d{1,5})?\s*")
        if not all(map(host.fullmatch, bootstrap.split(","))):
            raise ValueError("it takes host:port, several with commas between")
        return bootstrap

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "SASL" not in self.security_protocol:
            pass
        elif self.sasl_mechanism == "OAUTHBEARER":
            if self.oauth_token_file is None:
                raise ValueError("OAUTHBEARER needs oauth_token_file")
        elif not (self.username and self.password):
            raise ValueError("a SASL protocol needs username and password")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile go together")
        if self.heartbeat_s * 2 > self.session_timeout_s:
            raise ValueError("heartbeat_s must be at most half of session_timeout_s")
        both = sorted(set(self.input_topics) & set(self.outputs().values()))
        if both:
            raise ValueError(f"{both[0]} would be input and output at once")
        return self

    def outputs(self) -> dict[Output, str]:
        """The name of each output topic."""
        return {output: f"{self.output_prefix}{output}" for output in Output}

    def aiokafka(self) -> dict[str, Any]:
        """Arguments for any client of aiokafka. Raises Misconfigured if a PEM cannot be used."""
        made: dict[str, Any] = {
            "bootstrap_servers": [host.strip() for host in self.bootstrap.split(",")],
            "security_protocol": self.security_protocol,
        }
        if "SASL" in self.security_protocol:
            made["sasl_mechanism"] = self.sasl_mechanism
            if self.sasl_mechanism == "OAUTHBEARER":
                made["sasl_oauth_token_provider"] = self._bearer()
            else:
                made["sasl_plain_username"] = self.username
                made["sasl_plain_password"] = _shown(self.password)
        if "SSL" in self.security_protocol:
            made["ssl_context"] = self.ssl_context()
        return made

    def librdkafka(self) -> dict[str, Any]:
        """Configuration for any client of confluent-kafka."""
        made: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.security_protocol,
            "ssl.ca.location": _text(self.ssl_cafile),
            "ssl.certificate.location": _text(self.ssl_certfile),
            "ssl.key.location": _text(self.ssl_keyfile),
            "ssl.key.password": _shown(self.ssl_key_password),
        }
        if "SASL" in self.security_protocol:
            made["sasl.mechanism"] = self.sasl_mechanism
            if self.sasl_mechanism == "OAUTHBEARER":
                made["oauth_cb"] = self._bearer().librdkafka
            else:
                made["sasl.username"] = self.username
                made["sasl.password"] = _shown(self.password)
        return {name: value for name, value in made.items() if value is not None}

    def _bearer(self) -> BearerFile:
        from stream_app.edges.bearer import BearerFile  # here: it loads aiokafka

        assert self.oauth_token_file is not None  # `_fits_together`
        return BearerFile(self.oauth_token_file)

    def ssl_context(self) -> ssl.SSLContext:
        """Raises Misconfigured if a PEM cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                context.load_cert_chain(
                    self.ssl_certfile, self.ssl_keyfile, _shown(self.ssl_key_password)
                )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"kafka.ssl_*: a PEM file cannot be used: {error}") from error
        return context


class RedisSettings(Section):
    """Where the windows are kept."""

    url: SecretStr = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="redis:// or rediss:// (TLS), with ACL user and password if there are any",
    )
    prefix: str = Field(default="shopsentry", min_length=1, description="begins every key")
    timeout_s: Positive = Field(
        default=5.0, description="s until a call that got no answer has failed"
    )
    connect_timeout_s: Positive = Field(default=5.0, description="s until connecting has failed")

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: SecretStr) -> SecretStr:
        if urlsplit(url.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("it must begin with redis://, rediss:// or unix://")
        return url

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown: without its password."""
        parts = urlsplit(self.url.get_secret_value())
        if parts.password is None and "password" not in parts.query:
            return parts.geturl()
        host = parts.netloc.rpartition("@")[2]
        user = f"{parts.username or ''}:{MASK}@" if parts.password is not None else ""
        query = re.sub(r"(password=)[^&]*", rf"\1{MASK}", parts.query)
        return urlunsplit(parts._replace(netloc=user + host, query=query))


class WindowSettings(Section):
    """How much of a user's past is kept."""

    size: Count = Field(default=WindowPolicy().size, description="events in a window")
    slack: int = Field(
        default=WindowPolicy().slack, ge=0, description="further events kept for late ones"
    )
    span_s: Positive | None = Field(
        default=None,
        description="s of event time that a window spans at most; else what the model learnt from",
    )
    lateness_s: float = Field(
        default=WindowPolicy().lateness_ms / 1000,
        ge=0,
        description="s that an event may be older than its user's newest",
    )

    def policy(self, learnt: WindowPolicy) -> WindowPolicy:
        """`learnt`: what the model was trained with."""
        return WindowPolicy(
            size=self.size,
            slack=self.slack,
            span_ms=learnt.span_ms if self.span_s is None else round(self.span_s * 1000),
            lateness_ms=round(self.lateness_s * 1000),
        )


class AlertSettings(Section):
    """How often a user may alert."""

    cooldown_s: float = Field(
        default=AlertPolicy().cooldown_ms / 1000,
        ge=0,
        description="s of event time in which a user and task alert once",
    )
    risk_half_life_s: Positive = Field(
        default=AlertPolicy().risk_half_life_ms / 1000,
        description="s in which a user's risk halves",
    )

    def policy(self) -> AlertPolicy:
        return AlertPolicy(
            cooldown_ms=round(self.cooldown_s * 1000),
            risk_half_life_ms=round(self.risk_half_life_s * 1000),
        )


class CampaignSettings(Section):
    """When anomalous events of several users are one campaign."""

    quiet_s: Positive = Field(
        default=CampaignPolicy().quiet_ms / 1000,
        description="s of event time without a further event after which a campaign is over",
    )
    users: int = Field(
        default=CampaignPolicy().users, ge=2, description="users that make a campaign, at least"
    )
    strength: float = Field(
        default=CampaignPolicy().strength,
        ge=0,
        le=1,
        description="how coordinated these users must look: 0 any, 1 none",
    )

    def policy(self) -> CampaignPolicy:
        return CampaignPolicy(
            quiet_ms=round(self.quiet_s * 1000), users=self.users, strength=self.strength
        )


class ScorerSettings(Section):
    """The model and what it runs on."""

    bundle: Path = Field(
        default=HERE / "models" / "pretrained" / "shop-tiny",
        description="folder of the model bundle",
    )
    members: AnyNames = Field(
        default=(), description="members of the bundle whose mean is the score; none named: all"
    )
    trusted_keys: AnyNames = Field(
        default=(),
        description="public keys, one of which must have signed the bundle; none: no signature",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where to score; auto is cuda if there is one"
    )
    threads: int = Field(
        default=1, ge=0, description="CPU threads of the scorer; 2 on busy cores are far slower"
    )
    precision: Literal["bf16", "fp8"] = Field(
        default="bf16", description="of a BERT's linear layers on CUDA; fp8 from Hopper on"
    )

    @field_validator("trusted_keys")
    @classmethod
    def _are_keys(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        for key in keys:
            if not re.fullmatch(r"[A-Za-z0-9+/]{43}=", key):
                raise ValueError(f"{key!r} is no public key as `shopsentry sign` tells it")
        return keys


class FlowSettings(Section):
    """How many records are under way at once."""

    group_records: Count = Field(
        default=2048, description="records of a partition that go as one group"
    )
    group_target_s: Positive = Field(
        default=1.0, description="s a group may take; groups shrink to it"
    )
    in_flight: Count = Field(default=3, description="groups of a partition under way at once")
    waiting_records: Count = Field(default=8192, description="records of a partition that may wait")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.waiting_records < self.group_records:
            raise ValueError("waiting_records must be at least group_records")
        return self


class WebSettings(Section):
    """Live page, health and metrics."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(
        default=6066, ge=0, le=65535, description="port to listen on; 0 is any free one"
    )
    token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="who asks from another machine must send it as Authorization: Bearer",
    )


class PrivacySettings(Section):
    """By what names users are called."""

    key: SecretStr | None = Field(
        default=None,
        min_length=LEAST_KEY,
        description="of the hash that stands for a user; else one of each process alone, for logs",
    )
    outputs: bool = Field(
        default=False, description="alerts and user risk call users by that hash; needs key"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.outputs and self.key is None:
            raise ValueError("outputs needs privacy.key, or each worker had names of its own")
        return self

    def pseudonyms(self) -> Pseudonyms | None:
        """None without a key."""
        return None if self.key is None else Pseudonyms(self.key.get_secret_value().encode())


class LogSettings(Section):
    """What is said on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level"
    )
    # `json` is the name for people; the attribute must not hide BaseModel.json.
    as_json: bool = Field(default=False, alias="json", description="one JSON object a line")


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


class Setting(NamedTuple):
    """One setting, for people. `default` and `value` are as they may be shown."""

    name: str  # kafka.bootstrap
    env: str  # SHOPSENTRY_KAFKA__BOOTSTRAP
    default: str
    meaning: str
    value: str
    source: str  # default, file or environment


def load(file: Path | None = None) -> Settings:
    """The settings in force. `file` goes before the one that SHOPSENTRY_CONFIG names.

    Raises Misconfigured.
    """
    content = _read(file)
    known = _known()
    for name in _flat(content):
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


def listing(settings: Settings | None = None, file: Path | None = None) -> list[Setting]:
    """Every setting, in order, secrets masked. Without `settings`: as by default."""
    defaults = Settings.model_construct()
    content = set(_flat(_read(file))) if settings is not None else set()
    names = {name.upper() for name in os.environ} if settings is not None else set()
    found = []
    for name, field in _known().items():
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


def _known() -> dict[str, tuple[str, str]]:
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


def _read(given: Path | None) -> dict[str, Any]:
    path = _file(given)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the settings file {path} is not TOML: {error}") from None


def _flat(content: Mapping[str, Any]) -> Iterator[str]:
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


def _shown(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


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
