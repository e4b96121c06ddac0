"""What a user sets for Kafka, and what its client is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import KafkaError

from gpu_dispatch.net.tls import TlsFiles
from listener.configuration.environment import SourceSecrets


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`servers` are host:port. With `tls.ca_file`, the system's authorities are not trusted beside it."""

    servers: tuple[str, ...]
    topic: str
    group: str = "gpudrop"
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512"] = "plain"
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)


def configuration(settings: KafkaSettings, heard: Callable[[KafkaError], None]) -> dict[str, object]:
    tls, secrets = settings.tls, settings.secrets
    given = {
        "sasl.username": secrets.user,
        "sasl.password": secrets.password,
        "sasl.mechanism": settings.sasl.upper() if settings.security.startswith("sasl") else "",
        "ssl.ca.location": str(tls.ca_file or ""),
        "ssl.certificate.location": str(tls.cert_file or ""),
        # A certificate's file may hold its key as well.
        "ssl.key.location": str(tls.key_file or tls.cert_file or ""),
    }
    return {
        **{name: value for name, value in given.items() if value},
        "bootstrap.servers": ",".join(settings.servers),
        "security.protocol": settings.security,
        "group.id": settings.group,
        "client.id": "gpudrop",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        # How soon another listener takes over from one that died.
        "session.timeout.ms": 10_000,
        # All brokers count as away after two requests in a row without an answer: 13 s. For an answer to arrive in
        # time over a slow line, it is kept small (a larger message comes alone).
        "socket.timeout.ms": 6_000,
        "fetch.max.bytes": 4 << 20,
        "socket.connection.setup.timeout.ms": 5_000,
        "topic.metadata.refresh.interval.ms": 30_000,
        "reconnect.backoff.max.ms": 5_000,
        "error_cb": heard,
        # What the client would write to stderr comes to error_cb as well.
        "log_level": 2,
    }
