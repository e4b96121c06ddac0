"""A server that takes no conditions: what runs write is written all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from manifests.errors import StoreDenied
from manifests.task_groups import gather_all
from support.store_proxy import DENIED, StoreProxy, store_proxy

pytestmark = pytest.mark.minio


@pytest.fixture
def proxy(minio_server: Any) -> Iterator[StoreProxy]:
    with store_proxy(minio_server) as proxy:
        proxy.takes_conditions = False
        yield proxy


@pytest.mark.parametrize("expected", [None, "another"])
async def test_it_is_written_as_it_is_and_asked_for_with_the_first_write_only(
    proxy: StoreProxy, s3_settings: S3Settings, expected: str | None
) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    for key in ("a", "b", "a"):
        etag = await store.replace(bucket, key, key.encode(), content_type="text/plain", expected=expected)
        found = await store.head(bucket, key)
        assert found is not None and found.etag == etag
    # Tried a few times, like whatever a server answers with 5xx.
    assert set(proxy.refused) == {"PUT a"}
    tries = proxy.refused.total()
    await store.replace(bucket, "a", b"c", content_type="text/plain", expected=expected)
    assert proxy.refused.total() == tries
    await store.close()


async def test_an_object_is_created_all_the_same_but_never_over_another(
    proxy: StoreProxy, s3_settings: S3Settings
) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    assert await store.create(bucket, "a", b"first", content_type="text/plain")
    assert not await store.create(bucket, "a", b"second", content_type="text/plain")
    assert await store.read(bucket, "a", max_bytes=100) == b"first"
    await store.close()


async def test_writes_that_begin_together_are_all_written(proxy: StoreProxy, s3_settings: S3Settings) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    keys = [f"{n}" for n in range(8)]
    etags = await gather_all(
        store.replace(bucket, key, key.encode(), content_type="text/plain", expected=None) for key in keys
    )
    assert all(etags)
    await store.close()


async def test_such_a_bucket_can_be_used_and_claims_are_told_to_be_weak(
    proxy: StoreProxy, s3_settings: S3Settings
) -> None:
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    assert await store.check() == {}
    assert not await store.creates_atomically(bucket)
    assert [item async for item in store.list(bucket)] == []
    await store.close()


async def test_what_keeps_a_bucket_from_being_tried_is_told_not_what_came_after(
    proxy: StoreProxy, s3_settings: S3Settings
) -> None:
    """Keys that may neither write nor delete."""
    store = S3Store(replace(s3_settings, endpoint=proxy.endpoint))
    (bucket,) = store.buckets
    proxy.takes_conditions = True
    with (
        proxy.refusing(DENIED, lambda method, _: method in ("PUT", "DELETE")),
        pytest.raises(StoreDenied, match="Could not write"),
    ):
        await store.creates_atomically(bucket)
    await store.close()
