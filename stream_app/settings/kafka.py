"""Where Kafka is, and what its two kinds of clients are given."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.settings.section import Count, Names, Positive, Section, shown

if TYPE_CHECKING:
    from stream_app.edges.bearer import BearerFile


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
                made["sasl_plain_password"] = shown(self.password)
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
            "ssl.key.password": shown(self.ssl_key_password),
        }
        if "SASL" in self.security_protocol:
            made["sasl.mechanism"] = self.sasl_mechanism
            if self.sasl_mechanism == "OAUTHBEARER":
                made["oauth_cb"] = self._bearer().librdkafka
            else:
                made["sasl.username"] = self.username
                made["sasl.password"] = shown(self.password)
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
                    self.ssl_certfile, self.ssl_keyfile, shown(self.ssl_key_password)
                )
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"kafka.ssl_*: a PEM file cannot be used: {error}") from error
        return context


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
