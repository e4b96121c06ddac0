"""Stores to test against: a folder of its own, and a bucket of its own on one MinIO server a session."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError
from minio import Minio
from minio.deleteobjects import DeleteObject

from listener.config.credentials import AccessKeys
from listener.stores.folder import FolderStore
from listener.stores.memory import MemoryStore
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from support.deadlines import HANG_S
from support.requirements import in_ci, require
from support.scripts import load_script

servers = load_script("servers")
INSTALL = "python scripts/servers.py install minio"


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running `scripts.servers.Server`: endpoint, host, access_key, secret_key, pid. Started by the first test."""
    server = start_minio("minio", tmp_path_factory.mktemp("minio"), environment={"MINIO_DOMAIN": "localhost"})
    yield server
    servers.stop(server)


def start_minio(name: str, folder: Path, **options: Any) -> Any:
    """A server of its own for one test, which stops it with `servers.stop`. Built in CI, else only if it is there."""
    require(in_ci() or servers.find(name), f"No {name} server is installed.", f"{INSTALL} --build {name}")
    try:
        server = servers.start(name, folder, **options)
        if any(variable.startswith("MINIO_NOTIFY_") for variable in options.get("environment", {})):
            _until_targets_are_known(server)
        return server
    except RuntimeError as e:
        require(False, f"No {name} server: {e}", f"{INSTALL} --build {name}")
        raise


def _until_targets_are_known(server: Any) -> None:
    """It says that it is well before that, and then refuses rules, or lets `make_bucket` wait for a minute."""
    deadline = time.monotonic() + HANG_S
    while "SQS ARNs" not in server.log.read_text(errors="replace"):
        assert time.monotonic() < deadline, server.log.read_text(errors="replace")[-2000:]
        time.sleep(0.05)


def new_bucket(server: Any, name: str) -> None:
    """A server that has only just begun may say that it is not ready for this."""
    deadline = time.monotonic() + HANG_S
    while True:
        try:
            s3_client(server).create_bucket(Bucket=name)
            return
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") != "XMinioServerNotInitialized" or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@pytest.fixture(scope="session")
def minio_client(minio_server: Any) -> Minio:
    return admin_client(minio_server)


def admin_client(server: Any, **options: Any) -> Minio:
    keys = {"access_key": server.access_key, "secret_key": server.secret_key}
    # A server that has just begun says "in a minute" and means a second.
    retries = urllib3.Retry(total=20, backoff_factor=0.1, status_forcelist=[503], respect_retry_after_header=False)
    options.setdefault("http_client", urllib3.PoolManager(retries=retries))
    return Minio(server.host, **keys, secure=server.endpoint.startswith("https"), region="us-east-1", **options)


def s3_client(server: Any, service: str = "s3") -> Any:
    """boto3, for any server that speaks like Amazon: another client than the one under test."""
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client(service, endpoint_url=server.endpoint, region_name="us-east-1", config=config, **keys)


@pytest.fixture
def minio_bucket(minio_client: Minio) -> Iterator[str]:
    """The name of a fresh bucket; it is removed with everything in it."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    minio_client.make_bucket(name)
    yield name
    _empty(minio_client, name)
    minio_client.remove_bucket(name)


def _empty(client: Minio, bucket: str) -> None:
    found = [
        (each.object_name or "", each.version_id)
        for each in client.list_objects(bucket, recursive=True, include_version=True)
    ]
    # XML cannot carry every key that S3 can.
    list(client.remove_objects(bucket, [DeleteObject(*each) for each in found if each[0].isprintable()]))
    for key, version in found:
        if not key.isprintable():
            client.remove_object(bucket, key, version_id=version)


@pytest.fixture
def s3_settings(minio_server: Any, minio_bucket: str) -> S3Settings:
    return settings_for(minio_server, minio_bucket)


def settings_for(server: Any, *buckets: str, **changes: Any) -> S3Settings:
    """What an S3Store needs to use `server`; `changes` replace single settings."""
    settings = S3Settings(
        endpoint=server.endpoint,
        buckets=buckets,
        keys=lambda: AccessKeys(server.access_key, server.secret_key),
        timeout_s=20.0,
    )
    return replace(settings, **changes)


@pytest.fixture
async def s3_store(s3_settings: S3Settings) -> AsyncIterator[S3Store]:
    store = S3Store(s3_settings)
    yield store
    await store.close()


@pytest.fixture
def memory_store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def folder_store(tmp_path: Path) -> AsyncIterator[FolderStore]:
    root = tmp_path / "drop"
    root.mkdir()
    store = FolderStore(root)
    yield store
    await store.close()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.minio)])
def store(request: pytest.FixtureRequest) -> Any:
    """A store of each kind that an installation may choose."""
    return request.getfixturevalue(f"{request.param}_store")
