"""Which server answers, and whether it can keep notification rules at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from manifests.errors import ConfigError


class Server(Enum):
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
    "minio": Server.MINIO,
    "rustfs": Server.RUSTFS,
    "ceph": Server.CEPH,
    "seaweedfs": Server.SEAWEEDFS,
    "garage": Server.GARAGE,
    "versitygw": Server.VERSITY,
    "amazon": Server.AMAZON,
}
_CEPH_REQUEST = re.compile(r"tx[0-9a-f]{15,}-[0-9a-f]{10}-[0-9a-f]+-\S+")
_ALTERNATIVES = {
    Server.SEAWEEDFS: "Use `sources: [reconcile]`: new objects are found by listing. (It takes the request for rules"
    " for one to make a bucket, so none is sent.)",
    Server.GARAGE: "Use `sources: [reconcile]`: new objects are found by listing.",
    Server.VERSITY: "Its command line says where all its events go: --event-webhook-url URL (the path secret last in"
    " its path), or --event-nats-url with --event-nats-topic, --event-kafka-url with --event-kafka-topic, "
    "--event-rabbitmq-url with --event-rabbitmq-exchange.",
    Server.OTHER: "Use `sources: [reconcile]`: new objects are found by listing.",
}


def recognise(headers: Mapping[str, str]) -> Server:
    """From the headers of any answer; names of headers in any case. Ceph RGW may hide behind another name."""
    low = {name.lower(): value for name, value in headers.items()}
    server = low.get("server", "").lower()
    found = next((kind for word, kind in _BY_HEADER.items() if word in server), Server.OTHER)
    if found is Server.OTHER and _CEPH_REQUEST.fullmatch(low.get("x-amz-request-id", "")):
        return Server.CEPH
    return found


def cannot(server: Server, status: int, code: str) -> ConfigError | None:
    """Why nothing may be asked of `server`, from its answer to the harmless question for its rules; None: it may."""
    # Some take an unknown question for one about an object, or do not know it at all.
    lacking = (
        status == 501 or code in ("NotImplemented", "MethodNotAllowed", "NoSuchKey") or (status, code) == (404, "")
    )
    if server not in (Server.SEAWEEDFS, Server.GARAGE, Server.VERSITY) and not lacking:
        return None
    name = server.value if server is not Server.OTHER else "This server"
    return ConfigError(
        f"{name} keeps no notification rules for buckets.",
        hint=_ALTERNATIVES.get(server, _ALTERNATIVES[Server.OTHER]),
        where="store.endpoint",
    )
