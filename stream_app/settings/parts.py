"""The sections of all parts but Kafka."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from stream_app.core.alerting import AlertPolicy
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.pseudonym import LEAST_KEY, Pseudonyms
from stream_app.core.window import WindowPolicy
from stream_app.settings.section import HERE, MASK, AnyNames, Count, Positive, Section


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
    coalesce_behind: int = Field(
        default=0,
        ge=0,
        description="records that a partition is behind from which fewer windows are scored, "
        "with nearly the same scores (docs/performance.md); 0: never",
    )

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
