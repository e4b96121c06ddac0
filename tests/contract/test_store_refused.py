"""Whatever an S3 server refuses for now, and however it breaks off: each call says so in a way that runs wait for."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from listener.stores.s3.store import S3Store
from manifests.error_classes import is_waited_for
from manifests.errors import GpuDropError
from support.histories.outages import REFUSALS, StoreFault, Way
from support.histories.store_proxy import StoreProxy
from support.stores import settings_for

pytestmark = pytest.mark.minio

KEY = "a.txt"
TYPE = "text/plain"

Call = Callable[[S3Store, str], Awaitable[object]]


async def listed(store: S3Store, bucket: str) -> list[object]:
    return [item async for item in store.list(bucket)]


CALLS: dict[str, Call] = {
    "head": lambda s, b: s.head(b, KEY),
    "read": lambda s, b: s.read(b, KEY, max_bytes=1000),
    "write": lambda s, b: s.write(b, KEY, b"x", content_type=TYPE),
    "put": lambda s, b: s.put(b, KEY, b"x", content_type=TYPE),
    "create": lambda s, b: s.create(b, "new.txt", b"x", content_type=TYPE),
    "replace nothing": lambda s, b: s.replace(b, "new.txt", b"x", content_type=TYPE, expected=None),
    "replace": lambda s, b: s.replace(b, KEY, b"x", content_type=TYPE, expected="9dd4e461268c8034f5c8564e155c67a6"),
    "delete": lambda s, b: s.delete(b, KEY),
    "list": listed,
    "reach": lambda s, _: s.ping(),
}
CUTS: tuple[Way, ...] = ("away", "cut_request", "cut_answer", "lost_answer")


@pytest.fixture
async def proxy(minio_server: Any) -> AsyncIterator[StoreProxy]:
    async with StoreProxy(minio_server.host, random.Random(1)).serving() as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: StoreProxy, minio_server: Any, minio_bucket: str) -> AsyncIterator[S3Store]:
    made = S3Store(settings_for(minio_server, minio_bucket, endpoint=proxy.endpoint))
    await made.put(minio_bucket, KEY, b"x", content_type=TYPE)
    yield made
    await made.close()


@pytest.mark.parametrize(("status", "code"), REFUSALS, ids=[f"{status} {code}" for status, code in REFUSALS])
async def test_a_refusal_for_now(store: S3Store, proxy: StoreProxy, minio_bucket: str, status: int, code: str) -> None:
    proxy.faults = [StoreFault("refuse", status=status, code=code)]
    came = {name: await came_of(call, store, minio_bucket) for name, call in CALLS.items()}
    assert came == dict.fromkeys(CALLS, "waited for")


async def test_an_object_whose_head_alone_is_refused_is_not_missing(
    store: S3Store, proxy: StoreProxy, minio_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer to HEAD gives no reason: what is not found may be the bucket, for a moment."""
    any_request = proxy.fault_of
    monkeypatch.setattr(proxy, "fault_of", lambda head: any_request(head) if head.first[0] == "HEAD" else None)
    meta = await store.write(minio_bucket, KEY, b"xy", content_type=TYPE, run_id="r1")
    proxy.faults = [StoreFault("refuse", status=404, code="NoSuchBucket")]
    assert await store.head(minio_bucket, KEY) == meta
    assert proxy.met["refuse"]


@pytest.mark.parametrize("way", CUTS)
async def test_a_connection_that_breaks_off(store: S3Store, proxy: StoreProxy, minio_bucket: str, way: Way) -> None:
    """Never an error that no class knows; what got through all the same has been done."""
    proxy.faults = [StoreFault(way, share=0.7)]
    for name, call in CALLS.items():
        assert await came_of(call, store, minio_bucket) in ("waited for", "done", "unmet"), name


async def came_of(call: Call, store: S3Store, bucket: str) -> str:
    try:
        found = await call(store, bucket)
    except GpuDropError as e:
        return "waited for" if is_waited_for(e) else f"ends a run: {e.info.code}"
    return "unmet" if found is None else "done"
