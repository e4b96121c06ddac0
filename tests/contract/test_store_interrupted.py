"""A conditional write whose connection breaks: what became of it is looked up, and it is written once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest

from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from support.store_proxy import StoreProxy, store_proxy

pytestmark = pytest.mark.minio


@pytest.fixture
def proxy(minio_server: Any) -> Iterator[StoreProxy]:
    with store_proxy(minio_server) as proxy:
        yield proxy


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_it_is_written_all_the_same(
    proxy: StoreProxy, s3_settings: S3Settings, cut: Literal["before", "after"]
) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    proxy.cut_once = cut
    first = await store.replace(bucket, "a", b"1", content_type="text/plain", expected=None, run_id="r")
    proxy.cut_once = cut
    second = await store.replace(bucket, "a", b"2", content_type="text/plain", expected=first, run_id="r")
    found = await store.get(bucket, "a", max_bytes=9)
    assert found is not None and found.content == b"2" and found.meta.etag == second != first
    assert proxy.cut_once is None
    await store.close()


async def test_one_that_somebody_else_wrote_meanwhile_stays(proxy: StoreProxy, s3_settings: S3Settings) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    first = await store.replace(bucket, "a", b"1", content_type="text/plain", expected=None)
    await store.put(bucket, "a", b"theirs", content_type="text/plain")
    proxy.cut_once = "before"
    assert await store.replace(bucket, "a", b"ours", content_type="text/plain", expected=first) is None
    found = await store.get(bucket, "a", max_bytes=9)
    assert found is not None and found.content == b"theirs"
    await store.close()
