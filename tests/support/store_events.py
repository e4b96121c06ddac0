"""Stores that tell of their events: one MinIO with every target it has, and VersityGWs that post and publish."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support import brokers
from support.deadlines import HANG_S
from support.requirements import in_ci
from support.servers import servers, start_server
from support.stores import s3_client, start_minio
from support.webhook import minio_target

EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
SERVERS = {**brokers.SERVERS, "redis": "redis"}
"""Which server of scripts/servers.py stands behind a target of MinIO; a webhook needs none."""
PATH_SECRET = "in-the-path"


@dataclass(frozen=True)
class Telling:
    """A MinIO that posts to `port`, whoever listens there, and publishes to `places`, by kind."""

    server: Any
    port: int
    places: Mapping[str, Any]

    def bucket(self, kind: str) -> str:
        """The name of a new bucket that tells the target of this kind."""
        name = f"tells-{uuid.uuid4().hex[:12]}"
        queue = {"QueueArn": f"arn:minio:sqs::{kind[0].upper()}:{kind}", "Events": EVENTS}
        s3 = s3_client(self.server)
        s3.create_bucket(Bucket=name)
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [queue]}
        )
        return name


@pytest.fixture(scope="module")
def minio_telling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    """Without the brokers that are not installed here; in CI with all."""
    kinds = {**brokers.BENCHES, "redis": brokers.RedisBench}
    places = {
        kind: place(request.getfixturevalue(f"{SERVERS[kind]}_server").host)
        for kind, place in kinds.items()
        if in_ci() or servers.find(SERVERS[kind])
    }
    for place in places.values():
        asyncio.run(place.prepare())
    folder, port = tmp_path_factory.mktemp("minio-telling"), servers.free_ports(1)[0]
    environment = minio_target(port, folder / "queue")
    for kind, place in places.items():
        environment |= place.minio(kind[0].upper())
    server = start_minio("minio", folder, environment=environment)
    try:
        _wait_for_targets(server)
        yield Telling(server, port, places)
    finally:
        servers.stop(server)


def _wait_for_targets(server: Any) -> None:
    """MinIO calls itself ready before it knows its targets; a bucket made meanwhile can take it a minute."""
    deadline = time.monotonic() + HANG_S
    while "SQS ARNs" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def versitygw_posting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, int]]:
    """A VersityGW that posts to /PATH_SECRET of the port, whoever listens there."""
    port = servers.free_ports(1)[0]
    arguments = ("--event-webhook-url", f"http://127.0.0.1:{port}/{PATH_SECRET}")
    # It does not start unless its first post is taken.
    with _taking_posts(port):
        server = start_server("versitygw", tmp_path_factory.mktemp("versitygw-posting"), arguments=arguments)
    yield server, port
    servers.stop(server)


@pytest.fixture(scope="module")
def versitygw_publishing(
    nats_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, brokers.NatsBench]]:
    place = brokers.NatsBench(nats_server.host)
    asyncio.run(place.prepare())
    arguments = ("--event-nats-url", nats_server.endpoint, "--event-nats-topic", place.name)
    server = start_server("versitygw", tmp_path_factory.mktemp("versitygw-publishing"), arguments=arguments)
    yield server, place
    servers.stop(server)


@pytest.fixture(scope="module")
def silent_minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The build whose event stream never says a word."""
    server = start_minio("minio-head", tmp_path_factory.mktemp("minio-head"))
    yield server
    servers.stop(server)


@contextmanager
def _taking_posts(port: int) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as taking:
        thread = threading.Thread(target=taking.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            taking.shutdown()
            thread.join()
