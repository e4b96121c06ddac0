"""A server that takes no conditions: what runs write is written all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from support.store_proxy import StoreProxy, store_proxy

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
