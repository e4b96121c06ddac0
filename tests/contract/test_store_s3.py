"""What only S3 does: keys that break listings, versions, credentials, endpoints, certificates; on a real MinIO."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import boto3
import pytest
from minio import Minio, MinioAdmin
from minio.commonconfig import ENABLED
from minio.credentials import StaticProvider
from minio.versioningconfig import VersioningConfig
from yarl import URL

from listener.config.credentials import AccessKeys
from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.metadata import RUN_METADATA
from listener.stores.s3.store import S3Store
from manifests.errors import StoreDenied, StoreUnavailable
from support.deadlines import HANG_S
from support.stores import settings_for

pytestmark = pytest.mark.minio


@pytest.fixture(scope="module")
def boto(minio_server: Any) -> Any:
    """A client that puts any key at all."""
    keys = {"aws_access_key_id": minio_server.access_key, "aws_secret_access_key": minio_server.secret_key}
    return boto3.client("s3", endpoint_url=minio_server.endpoint, region_name="us-east-1", **keys)


async def everything(store: S3Store, prefix: str = "") -> list[ObjectMeta | UnlistableKey]:
    return [item async for item in store.list(store.buckets[0], prefix)]


async def test_no_odd_key_ends_a_listing_and_nothing_else_is_missed(
    s3_store: S3Store, minio_bucket: str, boto: Any
) -> None:
    """The odd keys lie behind, between and in front of more usable keys than two pages hold."""
    usable = {f"m/{n:05}" for n in range(2050)} | {"a/first", "z/last"}
    odd = {"m/00500\n", "m/01999\r", "z/\x01", "\x7f"}
    gate = asyncio.Semaphore(16)

    async def put(key: str) -> None:
        async with gate:
            await s3_store.write(minio_bucket, key, b"1", content_type="")

    await asyncio.gather(*(put(key) for key in usable))
    for key in odd:
        await asyncio.to_thread(boto.put_object, Bucket=minio_bucket, Key=key, Body=b"1")
    found = await everything(s3_store)
    assert sorted(item.key for item in found if isinstance(item, ObjectMeta)) == sorted(usable)
    assert sorted(item.key for item in found if isinstance(item, UnlistableKey)) == sorted(odd)
    assert all("control character" in item.problem for item in found if isinstance(item, UnlistableKey))
    for item in (item for item in found if isinstance(item, ObjectMeta) and item.key in ("a/first", "z/last")):
        assert await s3_store.head(minio_bucket, item.key) == item
    assert {item.key for item in await everything(s3_store, "m/005")} == {
        key for key in usable | odd if key.startswith("m/005")
    }


async def test_folder_markers_are_no_objects(s3_store: S3Store, minio_bucket: str, boto: Any) -> None:
    for key in ("folder/", "folder/a.mp3", "song.mp3/", "both/", "empty.txt"):
        await asyncio.to_thread(boto.put_object, Bucket=minio_bucket, Key=key, Body=b"")
    expected = {"folder/a.mp3", "empty.txt"}
    assert {item.key for item in await everything(s3_store)} == expected
    # The same when the listing has to be taken over by the other client.
    await asyncio.to_thread(boto.put_object, Bucket=minio_bucket, Key="a\n", Body=b"")
    assert {item.key for item in await everything(s3_store) if isinstance(item, ObjectMeta)} == expected
    assert await s3_store.head(minio_bucket, "folder/") is None
    assert await s3_store.head(minio_bucket, "song.mp3") is None
    await s3_store.delete(minio_bucket, "folder/")
    listed = await asyncio.to_thread(boto.list_objects_v2, Bucket=minio_bucket)
    assert "folder/" in {found["Key"] for found in listed["Contents"]}


async def test_versions_are_the_servers_where_it_keeps_them(
    s3_store: S3Store, minio_bucket: str, minio_client: Minio
) -> None:
    await asyncio.to_thread(minio_client.set_bucket_versioning, minio_bucket, VersioningConfig(ENABLED))
    first = await s3_store.write(minio_bucket, "a", b"same", content_type="")
    second = await s3_store.write(minio_bucket, "a", b"same", content_type="")
    assert first.version_id
    assert second.version_id
    assert first.version != second.version
    assert await s3_store.head(minio_bucket, "a") == second
    (listed,) = await everything(s3_store)
    assert isinstance(listed, ObjectMeta)
    assert replace(listed, version_id=second.version_id) == second
    await s3_store.delete(minio_bucket, "a")
    assert await s3_store.head(minio_bucket, "a") is None


async def test_the_run_and_the_type_stay_with_the_object(s3_store: S3Store, minio_bucket: str, boto: Any) -> None:
    await s3_store.write(minio_bucket, "a.json", b"{}", content_type="application/json", run_id="run-1")
    found = await s3_store.head(minio_bucket, "a.json")
    assert found is not None
    assert found.run_id == "run-1"
    head = await asyncio.to_thread(boto.head_object, Bucket=minio_bucket, Key="a.json")
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == {RUN_METADATA: "run-1"}


async def test_the_environment_changes_nothing(s3_settings: S3Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    assert await S3Store(s3_settings).check() == {}
    assert "other" not in repr(s3_settings)
    assert s3_settings.keys().secret_key not in repr((s3_settings, s3_settings.keys()))


async def test_check_tells_each_bucket_apart(minio_server: Any, minio_bucket: str) -> None:
    problems = await S3Store(settings_for(minio_server, minio_bucket, "missing-bucket")).check()
    assert set(problems) == {"missing-bucket"}
    assert "does not exist" in problems["missing-bucket"]
    assert "Create it" in problems["missing-bucket"]


async def test_refused_credentials_are_told_by_cause(s3_settings: S3Settings, minio_bucket: str) -> None:
    good = s3_settings.keys()
    for keys, words in (
        (replace(good, secret_key="wrong-secret"), "secret key does not fit"),
        (replace(good, access_key="nobody"), "does not know the access key"),
        (replace(good, session_token="nonsense"), "session token"),
    ):
        store = S3Store(replace(s3_settings, keys=lambda keys=keys: keys))
        assert words in (await store.check())[minio_bucket]
        for work in (
            store.head(minio_bucket, "a"),
            store.read(minio_bucket, "a", max_bytes=1),
            store.write(minio_bucket, "a", b"", content_type=""),
            store.delete(minio_bucket, "a"),
            everything(store),
        ):
            with pytest.raises(StoreDenied):
                await work


@pytest.fixture
def reader(minio_server: Any, minio_client: Minio, minio_bucket: str) -> AccessKeys:
    """Keys that may list and read the bucket, and nothing else."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetObject"],
                "Resource": [f"arn:aws:s3:::{minio_bucket}", f"arn:aws:s3:::{minio_bucket}/*"],
            }
        ],
    }
    provider = StaticProvider(minio_server.access_key, minio_server.secret_key)
    admin = MinioAdmin(endpoint=minio_server.host, credentials=provider, region="us-east-1", secure=False)
    made = json.loads(admin.add_service_account(policy=policy))
    return AccessKeys(made["credentials"]["accessKey"], made["credentials"]["secretKey"])


async def test_check_tells_that_a_bucket_may_only_be_read(
    s3_settings: S3Settings, minio_bucket: str, reader: AccessKeys
) -> None:
    store = S3Store(replace(s3_settings, keys=lambda: reader))
    assert await everything(store) == []
    problem = (await store.check())[minio_bucket]
    assert "Could not write" in problem
    assert "s3:PutObject" in problem


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """Accepts connections and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_an_endpoint_that_is_not_there_is_unavailable(s3_settings: S3Settings, silent_endpoint: str) -> None:
    for endpoint in ("http://127.0.0.1:1", "http://no-such-host.invalid:9000", silent_endpoint):
        store = S3Store(replace(s3_settings, endpoint=endpoint, timeout_s=1.0))
        (bucket,) = store.buckets
        for work in (
            store.head(bucket, "a"),
            store.read(bucket, "a", max_bytes=1),
            store.write(bucket, "a", b"", content_type=""),
            store.delete(bucket, "a"),
            everything(store),
            everything(store, "a\n/"),
        ):
            async with asyncio.timeout(HANG_S):
                with pytest.raises(StoreUnavailable) as e:
                    await work
            assert e.value.retryable
            assert "store.endpoint" in e.value.info.hint
        async with asyncio.timeout(HANG_S):
            assert endpoint in (await store.check())[bucket]


async def test_users_are_given_the_public_endpoint(s3_settings: S3Settings, minio_bucket: str) -> None:
    """The listener's own address is unusable here; what it signs works at the public one."""
    public = s3_settings.endpoint.replace("127.0.0.1", "localhost")
    await S3Store(s3_settings).write(minio_bucket, "a b.txt", b"1", content_type="")
    store = S3Store(replace(s3_settings, endpoint="http://10.255.255.1:9000", public_endpoint=public))
    assert store.public_url(minio_bucket, "a b.txt") == f"{public}/{minio_bucket}/a%20b.txt"
    assert store.trusted_hosts == ("10.255.255.1:9000", public.removeprefix("http://"))
    address = await store.sign("GET", minio_bucket, "a b.txt", expires_s=60)
    assert address.startswith(f"{public}/{minio_bucket}/a%20b.txt?")
    async with aiohttp.ClientSession() as session, session.get(URL(address, encoded=True)) as response:
        assert await response.read() == b"1"


async def test_virtual_hosts_are_signed_as_the_server_expects(s3_settings: S3Settings, minio_bucket: str) -> None:
    await S3Store(s3_settings).write(minio_bucket, "a+b.txt", b"1", content_type="")
    port = s3_settings.endpoint.rpartition(":")[2]
    store = S3Store(replace(s3_settings, endpoint=f"http://localhost:{port}", path_style=False))
    host = f"{minio_bucket}.localhost:{port}"
    assert store.public_url(minio_bucket, "a+b.txt") == f"http://{host}/a%2Bb.txt"
    address = await store.sign("GET", minio_bucket, "a+b.txt", expires_s=60)
    assert address.startswith(f"http://{host}/a%2Bb.txt?")
    # Not every resolver knows names below localhost: the address is called, the name only sent.
    called = URL(address.replace(host, f"127.0.0.1:{port}"), encoded=True)
    async with aiohttp.ClientSession() as session, session.get(called, headers={"Host": host}) as response:
        assert await response.read() == b"1"


async def test_a_signature_holds_for_its_method_key_and_time(s3_store: S3Store, minio_bucket: str) -> None:
    await s3_store.write(minio_bucket, "a", b"1", content_type="")
    address = await s3_store.sign("GET", minio_bucket, "a", expires_s=1)
    async with aiohttp.ClientSession() as session:
        async with session.put(URL(address, encoded=True), data=b"2") as response:
            assert response.status == 403
        async with session.get(URL(address.replace("/a?", "/b?"), encoded=True)) as response:
            assert response.status == 403
        await asyncio.sleep(2.5)
        async with session.get(URL(address, encoded=True)) as response:
            assert response.status == 403
    assert await s3_store.read(minio_bucket, "a", max_bytes=9) == b"1"
