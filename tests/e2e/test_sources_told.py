"""How the way in stands, as `gpudrop status` and `gpudrop check` tell it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from support.installation import FolderDrops, Installation, MinioDrops
from support.stores import admin_client, servers, start_minio

DROP = b"audio: not-there.mp3"


@pytest.fixture
def silent_install(tmp_path: Path) -> Iterator[Installation]:
    """On a server whose event stream never sends a byte."""
    server = start_minio("minio-head", tmp_path / "minio")
    client = admin_client(server)
    client.make_bucket("drop")
    store = {"kind": "s3", "endpoint": server.endpoint, "buckets": ["drop"]}
    config = {"store": store, "state": str(tmp_path / "state"), "reconcile": {"interval": "2s"}}
    keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
    installation = Installation(tmp_path, MinioDrops(client, "drop"), config, keys)
    yield installation
    installation.close()
    servers.stop(server)


def told(installation: Installation, *words: str) -> str:
    """The output of `gpudrop status` once it has all of `words`."""

    def look() -> str | None:
        found = installation.command("status").stdout
        return found if all(word in found for word in words) else None

    return installation.until(look)


def test_sources_and_their_counts(minio_install: Installation) -> None:
    minio_install.start()
    minio_install.until(lambda: minio_install.logged("stream_connected"))
    minio_install.drops.put("a.job.yaml", DROP)
    minio_install.drops.put("picture.png", b"no drop")
    found = told(minio_install, "minio", "run: 1", "no trigger matches: 1", "reconcile")
    assert "a.job.yaml" in found


def test_every_bucket_of_the_store(minio_install: Installation) -> None:
    assert isinstance(minio_install.drops, MinioDrops)
    minio_install.config["store"]["buckets"] = "*"
    minio_install.start()
    minio_install.drops.put("a.job.yaml", DROP)
    minio_install.until(lambda: minio_install.document("a.job.yaml", "status"))
    other = MinioDrops(minio_install.drops.client, "came-later")
    other.client.make_bucket("came-later")
    other.put("b.job.yaml", DROP)
    minio_install.until(lambda: other.get("b.status.json"))


def test_a_silent_stream_has_a_name_and_a_remedy_and_work_goes_on(silent_install: Installation) -> None:
    silent_install.start()
    silent_install.drops.put("a.job.yaml", DROP)
    silent_install.until(lambda: silent_install.document("a.job.yaml", "status"))
    told(silent_install, "sent nothing", "2025-10-15")
    silent_install.drops.put("b.job.yaml", DROP)
    silent_install.until(lambda: silent_install.document("b.job.yaml", "status"))
    checked = silent_install.command("check")
    assert checked.returncode == 1
    assert "BAD  source: minio" in checked.stdout
    assert "2025-10-15" in checked.stdout


def test_check_looks_at_queues_and_brokers(
    tmp_path: Path, moto_server: Any, redis_server: Any, nats_server: Any
) -> None:
    queues = boto3.client(
        "sqs",
        endpoint_url=moto_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
    )
    url = queues.create_queue(QueueName="checked")["QueueUrl"]
    store = {"kind": "s3", "endpoint": moto_server.endpoint, "buckets": ["none-such"]}
    sources = [
        {"kind": "sqs", "queue_url": url, "endpoint": moto_server.endpoint},
        {"kind": "sqs", "name": "gone", "queue_url": url + "-gone", "endpoint": moto_server.endpoint},
        {"kind": "redis", "url": redis_server.endpoint, "key": "checked"},
        {"kind": "nats", "servers": nats_server.endpoint, "stream": "none-such"},
        {"kind": "webhook", "listen": "127.0.0.1:1"},
    ]
    keys = {"GPUDROP_S3_ACCESS_KEY": "k", "GPUDROP_S3_SECRET_KEY": "s"}
    for name in ("SQS", "GONE"):
        keys |= {f"GPUDROP_{name}_USER": "k", f"GPUDROP_{name}_PASSWORD": "s"}
    installation = Installation(tmp_path, FolderDrops(tmp_path), {"store": store, "sources": sources}, keys)
    installation.write_config()
    found = installation.command("check").stdout
    assert "ok   source: sqs" in found
    assert "BAD  source: gone" in found
    assert "ok   source: redis" in found
    assert "BAD  source: nats" in found
    assert "GPUDROP_WEBHOOK_TOKEN" in found
    assert "Add reconcile to `sources`" in found
