"""Outputs in parts: addresses from our store, parts from our worker, on a real MinIO."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.task import PartUrls, TaskOutput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from listener.stores.base import JobObjects, UploadInParts
from listener.stores.folder import FolderStore
from listener.stores.s3.store import S3Store
from manifests.errors import StoreDenied, TransferFailed
from support.stores import s3_client

pytestmark = pytest.mark.minio

PART = 5 * 2**20
KEY = "out/a film (1) é.mp4"
THREE = RetryPolicy(0.02, 0.02, attempts=3)
QUICK = TransferLimits(connect_s=5, idle_s=10, total_s=60, retries=THREE, trusted_retries=THREE)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two whole parts and a bit."""
    path = tmp_path / "film.mp4"
    path.write_bytes(random.Random(7).randbytes(2 * PART + 12_345))
    return path


async def begun(store: S3Store, size: int = 4 * PART, *, bucket: str = "", lifetime_s: int = 600) -> UploadInParts:
    place = (bucket or store.buckets[0], KEY)
    links = await store.links(JobObjects(writes=(place,)), lifetime_s=lifetime_s)
    return await links.sign_parts(*place, size_hint=size, part_bytes=PART, content_type="video/mp4")


async def upload(path: Path, urls: PartUrls, hosts: tuple[str, ...], told: list[float] | None = None) -> None:
    """As a worker does it, with a limit for single writes that the file passes."""
    target = TaskOutput("film.mp4", "http://127.0.0.1:9/never", "video/mp4", in_parts=urls)
    async with Transfer(
        file_root=None, trusted_hosts=hosts, max_input_bytes=1, limits=QUICK, single_put_bytes=PART
    ) as transfer:
        await transfer.upload(path, target, told.append if told is not None else lambda _: None)


def left_open(server: object, bucket: str) -> list[str]:
    """MinIO lists the uploads of one key only."""
    found = s3_client(server).list_multipart_uploads(Bucket=bucket, Prefix=KEY)
    return [each["UploadId"] for each in found.get("Uploads", ())]


async def test_a_large_file_arrives_whole_with_its_type(s3_store: S3Store, film: Path, minio_server: object) -> None:
    bucket = s3_store.buckets[0]
    started = await begun(s3_store)
    assert (len(started.urls.parts), started.urls.part_bytes) == (4, PART)
    assert await s3_store.head(bucket, KEY) is None
    told: list[float] = []
    await upload(film, started.urls, s3_store.trusted_hosts, told)
    assert await s3_store.read(bucket, KEY, max_bytes=10 * PART) == film.read_bytes()
    assert told == sorted(told) and told[-1] == 1.0
    head = await asyncio.to_thread(s3_client(minio_server).head_object, Bucket=bucket, Key=KEY)
    assert head["ContentType"] == "video/mp4" and head["ETag"].strip('"').endswith("-3")
    assert left_open(minio_server, bucket) == []
    await s3_store.abort_parts(bucket, KEY, started.id)
    assert await s3_store.head(bucket, KEY) is not None


async def test_a_file_within_the_limit_takes_the_ordinary_way(s3_store: S3Store, tmp_path: Path) -> None:
    bucket = s3_store.buckets[0]
    small = tmp_path / "small.mp4"
    small.write_bytes(b"x" * PART)
    url = await s3_store.sign("PUT", bucket, KEY, expires_s=600)
    target = TaskOutput("film.mp4", url, "video/mp4", in_parts=PartUrls(1, ("http://127.0.0.1:9/",), ""))
    async with Transfer(
        file_root=None, trusted_hosts=s3_store.trusted_hosts, max_input_bytes=1, single_put_bytes=PART
    ) as transfer:
        await transfer.upload(small, target, lambda _: None)
    assert await s3_store.read(bucket, KEY, max_bytes=PART) == small.read_bytes()


async def test_an_upload_nobody_finishes_is_ended(s3_store: S3Store, film: Path) -> None:
    bucket = s3_store.buckets[0]
    started = await begun(s3_store)
    await s3_store.abort_parts(bucket, KEY, started.id)
    await s3_store.abort_parts(bucket, KEY, started.id)
    with pytest.raises(TransferFailed, match="404"):
        await upload(film, started.urls, s3_store.trusted_hosts)
    assert await s3_store.head(bucket, KEY) is None


async def test_a_file_larger_than_planned_is_told_before_anything_is_sent(s3_store: S3Store, film: Path) -> None:
    started = await begun(s3_store, size=PART)
    with pytest.raises(TransferFailed, match="planned") as refused:
        await upload(film, started.urls, s3_store.trusted_hosts)
    assert not refused.value.retryable
    await s3_store.abort_parts(s3_store.buckets[0], KEY, started.id)


async def test_a_bucket_that_is_not_there_is_told(s3_store: S3Store) -> None:
    with pytest.raises(StoreDenied, match="does not exist"):
        await begun(s3_store, bucket="no-such-bucket")


async def test_a_file_beyond_what_parts_can_hold_is_refused(s3_store: S3Store) -> None:
    with pytest.raises(TransferFailed, match="10,000"):
        await begun(s3_store, size=10_001 * PART)


async def test_a_folder_needs_no_parts(folder_store: FolderStore) -> None:
    links = await folder_store.links(JobObjects(writes=(("drop", "a"),)), lifetime_s=1)
    assert await links.sign_parts("drop", "a", size_hint=1, part_bytes=1) is None
    await folder_store.abort_parts("drop", "a", "none")


Say = Callable[[web.Request, int], web.Response | None]


@asynccontextmanager
async def between(say: Say) -> AsyncIterator[str]:
    """A server that takes parts like a store, unless `say(request, how often it was asked)` gives another answer."""
    asked: dict[str, int] = {}

    async def serve(request: web.Request) -> web.Response:
        await request.read()
        count = asked[request.path_qs] = asked.get(request.path_qs, 0) + 1
        return say(request, count) or web.Response(headers={"ETag": f'"{request.path.strip("/")}"'})

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{any:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def urls_at(host: str, count: int = 3) -> PartUrls:
    return PartUrls(PART, tuple(f"http://{host}/part{n}" for n in range(1, count + 1)), f"http://{host}/complete")


async def test_a_part_that_fails_is_sent_again_alone(film: Path) -> None:
    asked: list[str] = []

    def say(request: web.Request, count: int) -> web.Response | None:
        asked.append(request.path)
        return web.Response(status=503) if request.path == "/part2" and count == 1 else None

    async with between(say) as host:
        await upload(film, urls_at(host), (host,))
    assert sorted(asked) == ["/complete", "/part1", "/part2", "/part2", "/part3"]
    assert asked[-1] == "/complete"


@pytest.mark.parametrize(
    ("body", "retryable"),
    [("<Error><Code>InternalError</Code></Error>", True), ("<Error><Code>InvalidPart</Code></Error>", False)],
)
async def test_success_with_an_error_inside_is_a_failure(film: Path, body: str, retryable: bool) -> None:
    def say(request: web.Request, count: int) -> web.Response | None:
        return web.Response(text=f'<?xml version="1.0"?>\n{body}') if request.path == "/complete" else None

    async with between(say) as host:
        with pytest.raises(TransferFailed, match="answered 200") as refused:
            await upload(film, urls_at(host), (host,))
    assert refused.value.retryable is retryable and refused.value.info.where == "film.mp4"


async def test_an_address_that_has_expired_is_told_without_its_signature(s3_store: S3Store, film: Path) -> None:
    started = await begun(s3_store, lifetime_s=1)
    await asyncio.sleep(1.5)
    with pytest.raises(StoreDenied, match="expired") as refused:
        await upload(film, started.urls, s3_store.trusted_hosts)
    assert refused.value.retryable
    assert "Signature" not in str(refused.value.info)
    await s3_store.abort_parts(s3_store.buckets[0], KEY, started.id)
