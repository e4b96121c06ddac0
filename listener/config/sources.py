"""The sources config.yaml can name, in one list: a kind alone, or a kind with what it needs. Secrets are not among it.

A source's user, password and tokens come from the environment, under its name (its kind, unless given): see
environment.SourceSecrets. Two sources of one kind differ by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from listener.config.fields import Name, Names, Seconds, Section, usable_address


def _with_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > 65535:
        raise ValueError("the port is above 65535")
    return address


def _without_secrets(url: str) -> str:
    if urlsplit(url).password:
        raise ValueError("a URL must not hold a password: set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD")
    return url


Url = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9+]*://[^/\s]"), AfterValidator(_without_secrets), AfterValidator(usable_address)
]
Urls = Annotated[tuple[Url, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v), Field(min_length=1)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:/\s]+):\d{1,5}$"), AfterValidator(_with_port)]


class TlsConfig(Section, frozen=True):
    """`ca_file`: authorities trusted beside the system's. `cert_file`, `key_file`: what this side shows of itself."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _a_key_needs_its_certificate(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file is the key of cert_file: set both")
        return self


class _SourceConfig(Section, frozen=True):
    name: Name | None = None

    @property
    def named(self) -> str:
        """The source's name: in logs, in `gpudrop status`, and in the names of its secrets."""
        return self.name or str(getattr(self, "kind", ""))


class TargetedSource(_SourceConfig, frozen=True):
    target: str | None = None
    """What the store calls this target, an ARN. Default: found out."""


class _Broker(TargetedSource, frozen=True):
    tls: TlsConfig = TlsConfig()

    def without_tls(self) -> str:
        """What asks for a connection without TLS, and what to write instead; empty when nothing does."""
        return ""

    @model_validator(mode="after")
    def _files_are_used(self) -> Self:
        if self.tls != TlsConfig() and (plain := self.without_tls()):
            raise ValueError(f"tls is set, but {plain}")
        return self


class _BrokerByUrl(_Broker, frozen=True):
    url: Url

    def without_tls(self) -> str:
        secure = urlsplit(self.url).scheme in ("amqps", "mqtts", "rediss", "ssl", "tls")
        return "" if secure else "url asks for none: begin it with amqps://, mqtts:// or rediss://"


class FolderSourceConfig(_SourceConfig, frozen=True):
    kind: Literal["folder"]


class ReconcileSourceConfig(_SourceConfig, frozen=True):
    """See the section `reconcile`."""

    kind: Literal["reconcile"]


class MinioSourceConfig(_SourceConfig, frozen=True):
    """The store's own event stream. A keep-alive is asked for every `ping` (whole seconds), and a server that has sent
    none for ten seconds more is given up."""

    kind: Literal["minio"]
    ping: Annotated[Seconds, Field(ge=1, le=5)] = 2.0


class WebhookSourceConfig(TargetedSource, frozen=True):
    """An HTTP receiver. Who may post is decided by the secrets set for it, and by `tls.client_ca_file`."""

    class Tls(Section, frozen=True):
        cert_file: Path
        key_file: Path
        client_ca_file: Path | None = None
        """Only clients with a certificate of this authority are let in."""

    kind: Literal["webhook"]
    listen: Address = "127.0.0.1:8710"
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._~-]*$")] = "/"
    tls: Tls | None = None
    sns_topics: Names = ()
    """ARNs whose subscriptions are confirmed and whose messages are taken."""
    sns_hosts: Names = ()
    """host:port of servers that speak like Amazon SNS, beside Amazon's own."""
    open: bool = False
    """Takes events from anybody who reaches the port; only sensible where nobody else can."""


class SqsSourceConfig(TargetedSource, frozen=True):
    """A queue of Amazon SQS or anything that speaks like it. Keys: the AWS_* variables, or the source's own."""

    kind: Literal["sqs"]
    queue_url: Url
    region: str | None = None
    """Default: the one in the queue's URL, else the store's."""
    endpoint: Url | None = None
    visibility: Annotated[Seconds, Field(ge=5, le=43200)] = 60.0


class NatsSourceConfig(_Broker, frozen=True):
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
    """A durable queue, made and bound to `exchange` when it is not there yet."""

    kind: Literal["amqp"]
    exchange: str | None = None
    exchange_type: Literal["fanout", "direct", "topic", "headers"] = "fanout"
    routing_key: str = ""
    queue: str = "gpudrop"


class KafkaSourceConfig(_Broker, frozen=True):
    kind: Literal["kafka"]
    servers: Annotated[tuple[Address, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]
    topic: str
    group: str = "gpudrop"
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] = "plain"

    def without_tls(self) -> str:
        return "" if self.security.endswith("ssl") else "security asks for none: make it ssl or sasl_ssl"


class MqttSourceConfig(_BrokerByUrl, frozen=True):
    """A persistent session at QoS 1 under `client_id`: the broker keeps what comes while nobody is there."""

    kind: Literal["mqtt"]
    topic: str
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "gpudrop"


_KINDS: dict[str, type[_SourceConfig]] = {
    "folder": FolderSourceConfig,
    "reconcile": ReconcileSourceConfig,
    "minio": MinioSourceConfig,
    "webhook": WebhookSourceConfig,
    "sqs": SqsSourceConfig,
    "nats": NatsSourceConfig,
    "redis": RedisSourceConfig,
    "amqp": AmqpSourceConfig,
    "kafka": KafkaSourceConfig,
    "mqtt": MqttSourceConfig,
}


def _kind_alone(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _kind_of(value: Any) -> str | None:
    kind: Any = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return kind if isinstance(kind, str) and kind in _KINDS else None


AnySource = (
    FolderSourceConfig
    | ReconcileSourceConfig
    | MinioSourceConfig
    | WebhookSourceConfig
    | SqsSourceConfig
    | NatsSourceConfig
    | RedisSourceConfig
    | AmqpSourceConfig
    | KafkaSourceConfig
    | MqttSourceConfig
)
SourceConfig = Annotated[
    Annotated[FolderSourceConfig, Tag("folder")]
    | Annotated[ReconcileSourceConfig, Tag("reconcile")]
    | Annotated[MinioSourceConfig, Tag("minio")]
    | Annotated[WebhookSourceConfig, Tag("webhook")]
    | Annotated[SqsSourceConfig, Tag("sqs")]
    | Annotated[NatsSourceConfig, Tag("nats")]
    | Annotated[RedisSourceConfig, Tag("redis")]
    | Annotated[AmqpSourceConfig, Tag("amqp")]
    | Annotated[KafkaSourceConfig, Tag("kafka")]
    | Annotated[MqttSourceConfig, Tag("mqtt")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_source",
        custom_error_message="there is no such source; there are " + ", ".join(_KINDS),
    ),
    BeforeValidator(_kind_alone),
]
