"""Which server answers, and whether it can keep notification rules at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from manifests.errors import ConfigError


class NotificationServer(Enum):
    """The value is the name people know it by."""

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
    """From the headers of any answer; names of headers in any case. Ceph RGW may hide behind another name."""
    low = {name.lower(): value for name, value in headers.items()}
    server = low.get("server", "").lower()
    found = next((kind for word, kind in _BY_HEADER.items() if word in server), NotificationServer.OTHER)
    if found is NotificationServer.OTHER and _CEPH_REQUEST.fullmatch(low.get("x-amz-request-id", "")):
        return NotificationServer.CEPH
    return found


def why_no_rules(server: NotificationServer, status: int, code: str) -> ConfigError | None:
    """Why nothing may be asked of `server`, from its answer to the harmless question for its rules; None: it may."""
    # Some take an unknown question for one about an object, or do not know it at all.
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
