"""A task that waits for the store keeps no place: whoever the store serves has it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from handlers.base import TaskFile, TaskTarget
from listener.dispatch.request import JobRequest
from listener.stores.s3.store import S3Store
from manifests.references import ObjectRef
from support.attempts import Bench, Opened
from support.deadlines import HANG_S
from support.store_proxy import DENIED, StoreProxy, store_proxy
from support.stores import settings_for

pytestmark = pytest.mark.minio


@pytest.fixture
def proxy(minio_server: Any) -> Iterator[StoreProxy]:
    with store_proxy(minio_server) as proxy:
        yield proxy


@pytest.fixture
async def s3_store(minio_server: Any, minio_bucket: str, proxy: StoreProxy) -> AsyncIterator[S3Store]:
    """What `opened` builds on: the store behind the proxy."""
    store = S3Store(settings_for(minio_server, minio_bucket, endpoint=proxy.endpoint))
    yield store
    await store.close()


def with_a_large_output(bench: Bench) -> JobRequest:
    """Its upload in parts is begun before it is sent."""
    request = bench.request("large")
    large = TaskFile("a.mp3", ObjectRef(request.bucket, "a.mp3"), 10 * 2**30)
    return replace(
        request, task=replace(request.task, inputs=(large,), outputs=(TaskTarget("o", "denied/o.mp4", "video/mp4"),))
    )


async def test_a_task_that_the_store_refuses_keeps_no_place(opened: Opened, proxy: StoreProxy) -> None:
    bench = await opened(concurrency=1)
    request = with_a_large_output(bench)
    with proxy.refusing(DENIED, lambda _, key: key.startswith("denied/")):
        waiting = asyncio.create_task(bench.tried(request))
        async with asyncio.timeout(HANG_S):
            while not proxy.refused or await bench.ledger.open_rows():
                await asyncio.sleep(0.02)
        assert not waiting.done()
    assert (await bench.take("one")).input["task"]["outputs"][0]["in_parts"]
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_second_job_takes_no_place_that_somebody_waits_for(opened: Opened) -> None:
    """It asked past those in the queue, and had what became free before the next of them looked."""
    bench = await opened(concurrency=1)
    scheduler, elsewhere = bench.scheduler, frozenset({"two"})
    first = await scheduler.place(bench.request("first"), 1, 1, frozenset(), elsewhere)
    waiting = asyncio.create_task(scheduler.place(bench.request("waiting"), 1, 1, frozenset(), elsewhere))
    async with asyncio.timeout(HANG_S):
        while not bench.parked.total:
            await asyncio.sleep(0.02)
        await bench.ledger.ended(first.row.entry, outcome="done")
        assert await scheduler.place_now(bench.request("hedged"), 1, 2, elsewhere) is None
        placed = await waiting
    await bench.ledger.ended(placed.row.entry, outcome="done")
    assert await scheduler.place_now(bench.request("hedged"), 1, 2, elsewhere)
