"""What config.yaml says of a message broker, by kind. Secrets come from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from gpu_dispatch.net.tls import TlsFiles
from listener.config.fields import Section
from listener.config.source_kinds import TargetedSource
from listener.config.sources import Address, Url

Urls = Annotated[tuple[Url, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v), Field(min_length=1)]


class TlsConfig(Section, frozen=True):
    """How a broker's certificate is checked, and the listener's own."""

    ca_file: Path | None = None
    """Authorities trusted beside the system's."""
    cert_file: Path | None = None
    """The certificate that the listener presents."""
    key_file: Path | None = None
    """The key of `cert_file`; None: that file holds it."""

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.ca_file, self.cert_file, self.key_file)

    @model_validator(mode="after")
    def _a_key_needs_its_certificate(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file is the key of cert_file: set both")
        return self


class BrokerSettings(TargetedSource, frozen=True):
    """What the settings of every broker have in common."""

    tls: TlsConfig = TlsConfig()

    def without_tls(self) -> str:
        """Says which setting asks for no TLS, and what to write instead; "" when none does."""
        return ""

    @model_validator(mode="after")
    def _files_are_used(self) -> Self:
        if self.tls != TlsConfig() and (plain := self.without_tls()):
            raise ValueError(f"tls is set, but {plain}")
        return self


class _BrokerByUrl(BrokerSettings, frozen=True):
    url: Url

    def without_tls(self) -> str:
        secure = urlsplit(self.url).scheme in ("amqps", "mqtts", "rediss", "ssl", "tls")
        return "" if secure else "url asks for none: begin it with amqps://, mqtts:// or rediss://"


class NatsSourceConfig(BrokerSettings, frozen=True):
    """A durable pull consumer of a JetStream stream. A missing stream is an error, a missing consumer is made."""

    kind: Literal["nats"]
    servers: Urls
    stream: str
    subject: str | None = None
    durable: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "gpudrop"


class RedisSourceConfig(_BrokerByUrl, frozen=True):
    """The list that MinIO's `access` format appends to."""

    kind: Literal["redis"]
    key: str


class AmqpSourceConfig(_BrokerByUrl, frozen=True):
    """A durable queue, made and bound to `exchange` unless it exists."""

    kind: Literal["amqp"]
    exchange: str | None = None
    exchange_type: Literal["fanout", "direct", "topic", "headers"] = "fanout"
    routing_key: str = ""
    queue: str = "gpudrop"


class KafkaSourceConfig(BrokerSettings, frozen=True):
    """A consumer group of one topic."""

    kind: Literal["kafka"]
    servers: Annotated[tuple[Address, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]
    topic: str
    group: str = "gpudrop"
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] = "plain"

    def without_tls(self) -> str:
        return "" if self.security.endswith("ssl") else "security asks for none: make it ssl or sasl_ssl"


class MqttSourceConfig(_BrokerByUrl, frozen=True):
    """A persistent session at QoS 1 under `client_id`: the broker keeps messages while no listener is connected."""

    kind: Literal["mqtt"]
    topic: str
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "gpudrop"
