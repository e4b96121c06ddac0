"""Recognises servers, says whether they can keep rules, and lists the settings a MinIO server needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from urllib.parse import urlsplit

from listener.config.environment import SourceSecrets
from listener.config.sources import (
    AmqpSourceConfig,
    AnySource,
    KafkaSourceConfig,
    MqttSourceConfig,
    NatsSourceConfig,
    RedisSourceConfig,
    WebhookSourceConfig,
)
from manifests.errors import ConfigError


class NotificationServer(Enum):
    """The kinds of S3 servers; values are display names."""

    AMAZON = "Amazon S3"
    MINIO = "MinIO"
    RUSTFS = "RustFS"
    CEPH = "Ceph RGW"
    SEAWEEDFS = "SeaweedFS"
    GARAGE = "Garage"
    VERSITY = "VersityGW"
    OTHER = "a server that does not say what it is"


_BY_HEADER = {
    "minio": NotificationServer.MINIO,
    "rustfs": NotificationServer.RUSTFS,
    "ceph": NotificationServer.CEPH,
    "seaweedfs": NotificationServer.SEAWEEDFS,
    "garage": NotificationServer.GARAGE,
    "versitygw": NotificationServer.VERSITY,
    "amazon": NotificationServer.AMAZON,
}
_CEPH_REQUEST = re.compile(r"tx[0-9a-f]{15,}-[0-9a-f]{10}-[0-9a-f]+-\S+")
_ALTERNATIVES = {
    NotificationServer.SEAWEEDFS: "Use `sources: [reconcile]`: new objects are found by listing. (It takes the "
    "request for rules"
    " for one to make a bucket, so none is sent.)",
    NotificationServer.GARAGE: "Use `sources: [reconcile]`: new objects are found by listing.",
    NotificationServer.VERSITY: "Its command line says where all its events go: --event-webhook-url URL (the "
    "path secret last in"
    " its path), or --event-nats-url with --event-nats-topic, --event-kafka-url with --event-kafka-topic, "
    "--event-rabbitmq-url with --event-rabbitmq-exchange.",
    NotificationServer.OTHER: "Use `sources: [reconcile]`: new objects are found by listing.",
}


def recognise_server(headers: Mapping[str, str]) -> NotificationServer:
    """Recognises a server by any response's headers. Ceph RGW may send another name; its request ids reveal it."""
    low = {name.lower(): value for name, value in headers.items()}
    server = low.get("server", "").lower()
    found = next((kind for word, kind in _BY_HEADER.items() if word in server), NotificationServer.OTHER)
    if found is NotificationServer.OTHER and _CEPH_REQUEST.fullmatch(low.get("x-amz-request-id", "")):
        return NotificationServer.CEPH
    return found


def why_no_rules(server: NotificationServer, status: int, code: str) -> ConfigError | None:
    """Returns why `server` keeps no rules, judged by its response to reading them; None when it may keep some."""
    # Some servers take the request for one about an object, others do not know it.
    lacking = (
        status == 501 or code in ("NotImplemented", "MethodNotAllowed", "NoSuchKey") or (status, code) == (404, "")
    )
    if (
        server not in (NotificationServer.SEAWEEDFS, NotificationServer.GARAGE, NotificationServer.VERSITY)
        and not lacking
    ):
        return None
    name = server.value if server is not NotificationServer.OTHER else "This server"
    return ConfigError(
        f"{name} keeps no notification rules for buckets.",
        hint=_ALTERNATIVES.get(server, _ALTERNATIVES[NotificationServer.OTHER]),
        where="store.endpoint",
    )


ID = "GPUDROP"
KINDS = ("webhook", "nats", "redis", "amqp", "kafka", "mqtt")
"""Kinds of sources that MinIO sends to; its ARNs end in them."""

_QUEUE = ("QUEUE_DIR", "/var/lib/minio/gpudrop-events")


def server_variables(source: AnySource, secrets: SourceSecrets) -> tuple[str, ...]:
    """Returns lines NAME="value" for the server's environment, with <placeholders> for secrets. () for other kinds."""
    found = _settings(source, secrets)
    if not found:
        return ()
    lines = [("ENABLE", "on"), *found, _QUEUE]
    return tuple(f'MINIO_NOTIFY_{source.kind.upper()}_{name}_{ID}="{value}"' for name, value in lines)


def _settings(source: AnySource, secrets: SourceSecrets) -> list[tuple[str, str]]:
    match source:
        case WebhookSourceConfig():
            return _webhook(source, secrets)
        case NatsSourceConfig():
            subject = source.subject or f"<a subject of the stream {source.stream}>"
            address = urlsplit(source.servers[0]).netloc
            return [("ADDRESS", address), ("SUBJECT", subject), ("JETSTREAM", "on"), *_login(secrets)]
        case RedisSourceConfig():
            login = [("PASSWORD", "<password>")] if secrets.password else []
            return [("ADDRESS", urlsplit(source.url).netloc), ("FORMAT", "access"), ("KEY", source.key), *login]
        case AmqpSourceConfig():
            return _amqp(source, secrets)
        case KafkaSourceConfig():
            return [("BROKERS", ",".join(source.servers)), ("TOPIC", source.topic), *_kafka_login(source)]
        case MqttSourceConfig():
            broker = urlsplit(source.url)
            scheme = {"mqtt": "tcp", "mqtts": "ssl"}.get(broker.scheme, broker.scheme)
            broker_url = f"{scheme}://{broker.netloc}"
            return [("BROKER", broker_url), ("TOPIC", source.topic), ("QOS", "1"), *_login(secrets)]
        case _:
            return []


def _webhook(source: WebhookSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    host, _, port = source.listen.rpartition(":")
    host = "<this machine's address>" if host in ("0.0.0.0", "[::]", "127.0.0.1", "localhost") else host  # noqa: S104
    path = source.path if secrets.token or not secrets.path_secret else f"{source.path.rstrip('/')}/<path secret>"
    url = f"{'https' if source.tls else 'http'}://{host}:{port}{path}"
    return [("ENDPOINT", url)] + ([("AUTH_TOKEN", "<token>")] if secrets.token else [])


def _amqp(source: AmqpSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    parts = urlsplit(source.url)
    login = "<user>:<password>@" if secrets.user else ""
    return [
        ("URL", f"{parts.scheme}://{login}{parts.netloc.rpartition('@')[2]}{parts.path}"),
        ("EXCHANGE", source.exchange or "gpudrop"),
        ("EXCHANGE_TYPE", source.exchange_type),
        ("ROUTING_KEY", source.routing_key),
        ("DURABLE", "on"),
        ("DELIVERY_MODE", "2"),
    ]


def _kafka_login(source: KafkaSourceConfig) -> list[tuple[str, str]]:
    tls = [("TLS", "on")] if source.security in ("ssl", "sasl_ssl") else []
    if not source.security.startswith("sasl"):
        return tls
    mechanism = {"plain": "plain", "scram-sha-256": "sha256", "scram-sha-512": "sha512"}[source.sasl]
    named = [("SASL", "on"), ("SASL_MECHANISM", mechanism)]
    return [*tls, *named, ("SASL_USERNAME", "<user>"), ("SASL_PASSWORD", "<password>")]


def _login(secrets: SourceSecrets) -> list[tuple[str, str]]:
    return [("USERNAME", "<user>"), ("PASSWORD", "<password>")] if secrets.user else []
