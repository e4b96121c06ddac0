"""Recognises servers, says whether they can keep rules, and lists the settings a MinIO server needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum

from listener.config.environment import SourceSecrets
from listener.config.source_kinds import SourceSettings, source_kinds
from listener.config.sources import WebhookSourceConfig
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

    @property
    def tells_destinations(self) -> bool:
        """Whether it is configured with the targets that rules may name, and may be asked for them."""
        return self in (NotificationServer.MINIO, NotificationServer.RUSTFS)


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
_QUEUE = ("QUEUE_DIR", "/var/lib/minio/gpudrop-events")


def minio_sends_to(source: SourceSettings) -> bool:
    """Whether MinIO can send to a source of this kind; its ARNs end in the kind's name."""
    if isinstance(source, WebhookSourceConfig):
        return True
    kind = source_kinds().find(source.kind)
    return kind is not None and kind.minio_variables is not None


def server_variables(source: SourceSettings, secrets: SourceSecrets) -> tuple[str, ...]:
    """Returns lines NAME="value" for the server's environment, with <placeholders> for secrets. () for other kinds."""
    found = _settings(source, secrets)
    if not found:
        return ()
    lines = [("ENABLE", "on"), *found, _QUEUE]
    return tuple(f'MINIO_NOTIFY_{source.kind.upper()}_{name}_{ID}="{value}"' for name, value in lines)


def _settings(source: SourceSettings, secrets: SourceSecrets) -> Sequence[tuple[str, str]]:
    if isinstance(source, WebhookSourceConfig):
        return _webhook(source, secrets)
    kind = source_kinds().find(source.kind)
    return kind.minio_variables(source, secrets) if kind and kind.minio_variables else ()


def _webhook(source: WebhookSourceConfig, secrets: SourceSecrets) -> list[tuple[str, str]]:
    host, _, port = source.listen.rpartition(":")
    host = "<this machine's address>" if host in ("0.0.0.0", "[::]", "127.0.0.1", "localhost") else host  # noqa: S104
    path = source.path if secrets.token or not secrets.path_secret else f"{source.path.rstrip('/')}/<path secret>"
    url = f"{'https' if source.tls else 'http'}://{host}:{port}{path}"
    return [("ENDPOINT", url)] + ([("AUTH_TOKEN", "<token>")] if secrets.token else [])
