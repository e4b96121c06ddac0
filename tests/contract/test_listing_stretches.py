"""Listings that pass odd keys: alone, in a row, at the borders of pages, a whole page of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import boto3
import pytest

from listener.stores.s3.store import S3Store
from manifests.errors import ServerMisbehaves, StoreDenied
from support.listings import BUCKET, listed, made_up

STRETCHES = {
    "the first of all": [(0, 1)],
    "the last of all": [(5499, 1)],
    "the last of a page": [(999, 1)],
    "the first of a page": [(1000, 1)],
    "either side of a border": [(1999, 2)],
    "a whole page": [(1000, 1000)],
    "many pages": [(500, 3300)],
    "all of them": [(0, 5500)],
    "one on every page": [(500 + 1000 * page, 1) for page in range(6)],
    "none": [],
}


@pytest.mark.parametrize("odd", STRETCHES.values(), ids=STRETCHES)
async def test_each_key_comes_once(odd: Sequence[tuple[int, int]]) -> None:
    with made_up(5500, odd=odd) as server:
        usable, unusable = await listed(server.store())
        assert usable == [key for key in server.keys if "\n" not in key]
        assert unusable == [key for key in server.keys if "\n" in key]


async def test_the_fast_client_lists_again_behind_an_odd_stretch() -> None:
    with made_up(40_000, odd=[(1500, 10), (5500, 1)]) as server:
        usable, unusable = await listed(server.store())
        assert (len(usable), len(unusable)) == (39_989, 11)
        assert server.pages["minio"] < 10
        assert server.pages["obstore"] > 30


async def test_stretches_far_apart_cost_a_page_each() -> None:
    with made_up(100_000, odd=[(20_500 * n, 1) for n in range(5)]) as server:
        await listed(server.store())
        assert server.pages["minio"] <= 10


async def test_oddities_everywhere_do_not_double_the_requests() -> None:
    with made_up(100_000, odd=[(500 + 1000 * page, 1) for page in range(100)]) as server:
        await listed(server.store())
        assert sum(server.pages.values()) <= 102


@pytest.mark.parametrize(
    ("prefix", "most_pages"),
    [
        ("canais/channel-0002/", 11),
        ("canais/channel-0002", 12),
        ("canais/channel-0001/video-00019", 2),
        ("canais/channel-0001/video-0001999/audios/take-0019999.mp3", 2),
        ("canais/channel-9", 1),
        ("x", 1),
        ("a\n", 1),
    ],
)
async def test_only_what_lies_below_a_prefix_is_asked_for(prefix: str, most_pages: int) -> None:
    with made_up(50_000) as server:
        usable, unusable = await listed(server.store(), prefix)
        assert usable == [key for key in server.keys if key.startswith(prefix)]
        assert not unusable
        assert sum(server.pages.values()) <= most_pages


async def test_a_refusal_halfway_is_told_and_the_next_listing_is_whole() -> None:
    with made_up(5000, fail_at=3000) as server:
        store = server.store()
        with pytest.raises(StoreDenied):
            await listed(store)
        assert (await listed(store))[0] == list(server.keys)
        assert store.buckets == (BUCKET,)


async def test_a_listing_that_nobody_can_read_is_told() -> None:
    with made_up(3000, odd=[(1500, 1)], broken=True) as server:
        with pytest.raises(ServerMisbehaves) as e:
            await listed(server.store())
        assert BUCKET in str(e.value)
        assert "rename or delete" in e.value.info.hint


@pytest.mark.minio
async def test_characters_that_xml_cannot_carry_are_told_right(minio_server: Any, s3_store: S3Store) -> None:
    """The server writes U+FFFD for U+FFFE; a key that really holds U+FFFD is listed as well."""
    (bucket,) = s3_store.buckets
    keys = {"aws_access_key_id": minio_server.access_key, "aws_secret_access_key": minio_server.secret_key}
    client = boto3.client("s3", endpoint_url=minio_server.endpoint, region_name="us-east-1", **keys)
    for key in ("a", "b\ufffe", "b\uffff", "c\ufffd", "d/", "e\x01", "f" * 200 + "/" + "g" * 200, "z"):
        await asyncio.to_thread(client.put_object, Bucket=bucket, Key=key, Body=b"")
    usable, unusable = await listed(s3_store)
    client.close()
    assert usable == ["a", "b\ufffe", "b\uffff", "c\ufffd", "f" * 200 + "/" + "g" * 200, "z"]
    assert unusable == ["e\x01"]


@pytest.mark.minio
async def test_many_empty_objects_are_not_asked_for_one_by_one(s3_store: S3Store) -> None:
    (bucket,) = s3_store.buckets
    gate = asyncio.Semaphore(16)

    async def put(key: str) -> None:
        async with gate:
            await s3_store.write(bucket, key, b"", content_type="")

    keys = sorted(f"empty/{n:04}" for n in range(1200))
    await asyncio.gather(*map(put, keys))
    assert await listed(s3_store) == (keys, [])
