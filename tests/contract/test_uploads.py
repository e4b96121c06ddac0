"""Uploads in parts as the dispatcher begins and ends them, on a real MinIO."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_dispatch.task import AddAudioParams, TaskOutput
from handlers.base import PlannedTask, TaskFile, TaskTarget
from listener.dispatch.request import JobRequest
from listener.dispatch.task_builder import MultipartUploads
from listener.stores.base import JobLinks, JobObjects
from listener.stores.s3.store import S3Store
from manifests.references import ObjectRef
from support.stores import s3_client

pytestmark = pytest.mark.minio

OUTPUT = TaskOutput("out.mp4", "https://store/out.mp4?signed", "video/mp4")


def request(bucket: str, size: int | None) -> JobRequest:
    files = (TaskFile("v.mp4", ObjectRef(bucket, "v.mp4"), size), TaskFile("a.wav", ObjectRef(bucket, "a.wav"), 1000))
    task = PlannedTask(
        AddAudioParams(video="v.mp4", audio="a.wav", output="out.mp4"),
        files,
        (TaskTarget("out.mp4", "films/out.mp4", "video/mp4"),),
    )
    return JobRequest(
        run_id="r", bucket=bucket, key="k", index=0, count=1, task=task, max_attempts=1, trigger="t",
        operation="addaudio", give_up=0.0,
    )  # fmt: skip


async def links_of(store: S3Store) -> JobLinks:
    return await store.links(JobObjects(writes=((store.buckets[0], "films/out.mp4"),)), lifetime_s=600)


def left_open(server: object, bucket: str) -> list[str]:
    # MinIO lists the uploads of one key only.
    found = s3_client(server).list_multipart_uploads(Bucket=bucket, Prefix="films/out.mp4")
    return [each["Key"] for each in found.get("Uploads", ())]


async def test_large_inputs_get_addresses_for_parts_and_small_ones_do_not(
    s3_store: S3Store, minio_server: object
) -> None:
    bucket = s3_store.buckets[0]
    uploads, links = MultipartUploads(s3_store, single_put_bytes=400 * 2**20), await links_of(s3_store)
    assert await uploads.prepare(request(bucket, 90 * 2**20), (OUTPUT,), links) == (OUTPUT,)
    assert await uploads.prepare(request(bucket, None), (OUTPUT,), links) == (OUTPUT,)
    assert left_open(minio_server, bucket) == []

    large = request(bucket, 110 * 2**20)
    (output,) = await uploads.prepare(large, (OUTPUT,), links)
    assert output.in_parts and replace(output, in_parts=None) == OUTPUT
    assert output.in_parts.part_bytes * len(output.in_parts.parts) >= 4 * 110 * 2**20
    assert left_open(minio_server, bucket) == ["films/out.mp4"]


async def test_uploads_that_nobody_completed_are_ended(s3_store: S3Store, minio_server: object) -> None:
    bucket = s3_store.buckets[0]
    uploads, links = MultipartUploads(s3_store, single_put_bytes=1000), await links_of(s3_store)
    asked = request(bucket, 2000)
    for _ in range(2):
        await uploads.prepare(asked, (OUTPUT,), links)
    assert left_open(minio_server, bucket) == ["films/out.mp4"] * 2
    await uploads.end(asked)
    await uploads.end(asked)
    assert left_open(minio_server, bucket) == []
