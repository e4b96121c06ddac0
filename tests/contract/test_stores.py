"""What every store must do, tried on a folder, in memory and on MinIO."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest
from yarl import URL

from listener.stores.base import ObjectMeta, Store, UnlistableKey
from listener.stores.memory import MemoryStore
from manifests.errors import InputTooLarge, StoreDenied, UnusableKey
from support.deadlines import HANG_S
from support.keys import ODD_KEYS


@pytest.fixture(params=["folder", "memory", pytest.param("s3", marks=pytest.mark.minio)])
def store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def bucket(store: Store) -> str:
    return store.buckets[0]


async def put(store: Store, key: str, data: bytes = b"x", **options: Any) -> ObjectMeta:
    return await store.write(store.buckets[0], key, data, content_type="text/plain", **options)


async def listed(found: AsyncIterator[ObjectMeta | UnlistableKey]) -> dict[str, ObjectMeta | UnlistableKey]:
    items = [item async for item in found]
    by_key = {item.key: item for item in items}
    assert len(by_key) == len(items), "a key came twice"
    return by_key


async def transfer(store: Store, method: str, url: str, data: bytes | None = None) -> bytes:
    """What a worker does with a signed address: plain HTTP with a Content-Type, a file, or what the store keeps."""
    if isinstance(store, MemoryStore):
        if method == "GET":
            return await store.fetch(url) or b""
        await store.upload(url, data or b"")
        return b""
    if url.startswith("file:"):
        path = Path(unquote(urlsplit(url).path))
        if method == "GET":
            return path.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or b"")
        return b""
    headers = {"Content-Type": "video/mp4"} if method == "PUT" else {}
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        # `encoded`: the address is sent as it is, character for character.
        session.request(method, URL(url, encoded=True), data=data, headers=headers) as response,
    ):
        body = await response.read()
        assert response.status == 200, body
        return body


async def test_every_usable_key_round_trips(store: Store, bucket: str) -> None:
    for key in ODD_KEYS:
        written = await put(store, key, key.encode())
        assert await store.read(bucket, key, max_bytes=1024) == key.encode()
        assert await store.head(bucket, key) == written
        assert written.key == key
        assert written.size == len(key.encode())
    found = await listed(store.list(bucket))
    assert set(found) == set(ODD_KEYS)
    for key, meta in found.items():
        head = await store.head(bucket, key)
        assert isinstance(meta, ObjectMeta)
        assert head is not None
        assert head.version == meta.version


async def test_signed_addresses_work_for_every_key(store: Store, bucket: str) -> None:
    for key in ODD_KEYS:
        address = await store.sign("PUT", bucket, key, expires_s=60, content_type="video/mp4")
        await transfer(store, "PUT", address, key.encode())
        assert await store.read(bucket, key, max_bytes=1024) == key.encode()
        address = await store.sign("GET", bucket, key, expires_s=60)
        assert await transfer(store, "GET", address) == key.encode()
        assert unquote(urlsplit(store.public_url(bucket, key)).path).endswith("/" + key)


async def test_an_overwrite_with_the_same_bytes_is_another_version(store: Store, bucket: str) -> None:
    first = await put(store, "a.txt", b"same")
    again = await store.head(bucket, "a.txt")
    assert again is not None
    assert again.version == first.version
    # HTTP tells times in whole seconds: the next one must have begun.
    await asyncio.sleep(1.1)
    second = await put(store, "a.txt", b"same")
    assert second.version != first.version


async def test_what_is_missing_is_none_and_can_be_deleted(store: Store, bucket: str) -> None:
    await put(store, "folder/there.txt")
    for key in ("nothing.txt", "folder", "folder/", "folder/there.txt/below", "no/such/folder.txt"):
        assert await store.head(bucket, key) is None
        assert await store.read(bucket, key, max_bytes=10) is None
        await store.delete(bucket, key)
    await store.delete(bucket, "folder/there.txt")
    await store.delete(bucket, "folder/there.txt")
    assert await store.head(bucket, "folder/there.txt") is None
    assert await listed(store.list(bucket)) == {}


async def test_a_limit_refuses_before_it_reads(store: Store, bucket: str) -> None:
    await put(store, "big.json", b"x" * 1001)
    assert len(await store.read(bucket, "big.json", max_bytes=1001) or b"") == 1001
    with pytest.raises(InputTooLarge) as e:
        await store.read(bucket, "big.json", max_bytes=1000)
    assert "1001" in str(e.value)
    await put(store, "empty.json", b"")
    assert await store.read(bucket, "empty.json", max_bytes=0) == b""


@pytest.mark.parametrize("key", ["", "a//b", "/a", "../a", "a/./b", "a\nb", "x" * 1025])
async def test_unusable_keys_are_refused_by_name(store: Store, bucket: str, key: str) -> None:
    for work in (
        store.head(bucket, key),
        store.read(bucket, key, max_bytes=1),
        store.write(bucket, key, b"", content_type=""),
        store.delete(bucket, key),
        store.sign("GET", bucket, key, expires_s=60),
    ):
        with pytest.raises(UnusableKey):
            await work


async def test_a_folder_marker_cannot_be_written(store: Store, bucket: str) -> None:
    with pytest.raises(UnusableKey):
        await put(store, "folder/")
    with pytest.raises(UnusableKey):
        await store.sign("PUT", bucket, "folder/", expires_s=60)


async def test_a_prefix_is_the_start_of_a_key(store: Store, bucket: str) -> None:
    for key in ("a/one.mp3", "a/on/two.mp3", "a/other.mp3", "ab/one.mp3", "b.mp3", "empty/file"):
        await put(store, key, b"" if key == "empty/file" else b"x")
    for prefix, expected in {
        "": {"a/one.mp3", "a/on/two.mp3", "a/other.mp3", "ab/one.mp3", "b.mp3", "empty/file"},
        "a": {"a/one.mp3", "a/on/two.mp3", "a/other.mp3", "ab/one.mp3"},
        "a/": {"a/one.mp3", "a/on/two.mp3", "a/other.mp3"},
        "a/on": {"a/one.mp3", "a/on/two.mp3"},
        "a/one.mp3": {"a/one.mp3"},
        "b.mp3/": set(),
        "none/here/": set(),
        "empty/": {"empty/file"},
        "a//": set(),
        "../": set(),
    }.items():
        assert set(await listed(store.list(bucket, prefix))) == expected, prefix


async def test_a_reader_sees_the_old_object_or_the_new_one(store: Store, bucket: str) -> None:
    size = 8 * 2**20
    versions = [bytes([n]) * (size + n) for n in range(1, 9)]
    await put(store, "big.bin", versions[0])
    done = asyncio.Event()

    async def write() -> None:
        for data in versions[1:]:
            await put(store, "big.bin", data)
        done.set()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            data = await store.read(bucket, "big.bin", max_bytes=2 * size)
            assert data in versions
            sizes = [item.size async for item in store.list(bucket) if isinstance(item, ObjectMeta)]
            assert len(sizes) == 1
            assert sizes[0] - size in range(1, 9)
            reads += 1
        return reads

    async with asyncio.timeout(HANG_S):
        _, reads = await asyncio.gather(write(), read())
    assert reads > 0


async def test_listings_stream(store: Store, bucket: str) -> None:
    """More keys than a page holds: each comes once, and a reader may stop early."""
    keys = {f"many/{n % 7}/{n:05}.txt" for n in range(2300)}
    gate = asyncio.Semaphore(16)

    async def one(key: str) -> None:
        async with gate:
            await put(store, key)

    await asyncio.gather(*(one(key) for key in keys))
    assert set(await listed(store.list(bucket, "many/"))) == keys
    async for item in store.list(bucket, "many/"):
        assert item.key in keys
        break


async def test_check_is_quiet_when_all_is_well_and_leaves_nothing(store: Store, bucket: str) -> None:
    assert await store.check() == {}
    assert await listed(store.list(bucket)) == {}
    assert await store.head(bucket, ".gpudrop/write-check") is None


async def test_another_bucket_is_not_found(store: Store) -> None:
    with pytest.raises(StoreDenied, match="no-such-bucket"):
        await store.write("no-such-bucket", "a", b"", content_type="")
    with pytest.raises(StoreDenied, match="no-such-bucket"):
        await listed(store.list("no-such-bucket"))
    with pytest.raises(StoreDenied, match="no-such-bucket"):
        await store.read("no-such-bucket", "a", max_bytes=1)


async def test_an_object_is_created_once_however_many_try(store: Store, bucket: str) -> None:
    async def create(n: int) -> bool:
        return await store.create(bucket, "claims/one.json", f"{n}".encode(), content_type="text/plain")

    made = await asyncio.gather(*(create(n) for n in range(20)))
    assert sum(made) == 1
    assert await store.read(bucket, "claims/one.json", max_bytes=10) == f"{made.index(True)}".encode()
    assert not await create(99)
    await store.delete(bucket, "claims/one.json")
    assert await create(100)


async def test_an_object_is_replaced_only_while_it_is_the_one_expected(store: Store, bucket: str) -> None:
    async def replace(data: bytes, expected: str | None) -> str | None:
        return await store.replace(bucket, "a/b.json", data, content_type="text/plain", expected=expected, run_id="r")

    assert await replace(b"1", "no-such-etag") is None
    assert await store.head(bucket, "a/b.json") is None
    first = await replace(b"1", None)
    assert first
    assert await replace(b"2", None) is None
    second = await replace(b"2", first)
    assert second
    assert second != first
    assert await replace(b"3", first) is None
    assert await store.read(bucket, "a/b.json", max_bytes=9) == b"2"
    found = await store.head(bucket, "a/b.json")
    assert found
    assert found.etag == second
    await store.delete(bucket, "a/b.json")
    assert await replace(b"4", second) is None
    assert await replace(b"4", None)


async def test_of_many_that_replace_the_same_object_one_does(store: Store, bucket: str) -> None:
    now = await put(store, "a", b"first")

    async def replace(n: int) -> str | None:
        return await store.replace(bucket, "a", f"{n}".encode(), content_type="text/plain", expected=now.etag)

    written = [etag for etag in await asyncio.gather(*map(replace, range(20))) if etag]
    found = await store.head(bucket, "a")
    assert found
    assert written == [found.etag]
