"""A store in this process's memory, for tests of handlers and runs without a disk or a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from listener.stores.base import JobObjects, LinkReport, ObjectMeta, StoredObject, StoreLinks, UnlistableKey, too_large
from manifests.errors import ObjectDenied, UnusableKey
from manifests.keys import check_key

_SCHEME = "memory"


class MemoryStore:
    """A `Store` in memory, for one event loop; each call yields to other tasks.

    Its URLs begin with "memory:", and only `fetch` and `upload` of the same store can use them. `clock` gives epoch
    seconds.
    """

    def __init__(self, buckets: Sequence[str] = ("drop",), *, clock: Callable[[], float] = time.time) -> None:
        self._objects: dict[str, dict[str, StoredObject]] = {bucket: {} for bucket in buckets}
        self._clock = clock
        self._numbers = count(1)

    @property
    def buckets(self) -> tuple[str, ...]:
        return tuple(self._objects)

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        return ()

    @property
    def links_expire(self) -> bool:
        return False

    @property
    def longest_link_s(self) -> float:
        return float("inf")

    async def find_buckets(self) -> tuple[str, ...]:
        return self.buckets

    async def head(self, bucket: str, key: str) -> ObjectMeta | None:
        await asyncio.sleep(0)
        return self._head(bucket, key)

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        found = await self.get(bucket, key, max_bytes=max_bytes)
        return found.content if found else None

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        await asyncio.sleep(0)
        found = self._bucket(bucket).get(check_key(key))
        if found is None:
            return None
        if found.meta.size > max_bytes:
            raise too_large(key, found.meta.size, max_bytes)
        return replace(found, meta=replace(found.meta, run_id=""))

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        del content_type
        await asyncio.sleep(0)
        return self._put(bucket, key, data, run_id)

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> None:
        await self.write(bucket, key, data, content_type=content_type, run_id=run_id)

    async def create(self, bucket: str, key: str, data: bytes, *, content_type: str) -> bool:
        return await self.replace(bucket, key, data, content_type=content_type, expected=None) is not None

    async def replace(
        self, bucket: str, key: str, data: bytes, *, content_type: str, expected: str | None, run_id: str = ""
    ) -> str | None:
        del content_type
        await asyncio.sleep(0)
        there = self._head(bucket, key)
        if (there.etag if there else None) != expected:
            return None
        return self._put(bucket, key, data, run_id).etag

    async def check_writable(self, bucket: str, key: str) -> None:
        self._bucket(bucket)
        _check_writable(key)

    async def delete(self, bucket: str, key: str) -> None:
        await asyncio.sleep(0)
        self._bucket(bucket).pop(check_key(key), None)

    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        """Yields the objects present at the start, in the order of keys."""
        for _, found in sorted(self._bucket(bucket).items()):
            await asyncio.sleep(0)
            if found.meta.key.startswith(prefix):
                yield replace(found.meta, run_id="")

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        del method, expires_s, content_type
        await self.check_writable(bucket, key)
        return self.public_url(bucket, key)

    async def links(self, objects: JobObjects, *, lifetime_s: int) -> StoreLinks:
        del objects, lifetime_s
        return StoreLinks(self)

    async def probe_links(self, bucket: str) -> LinkReport:
        del bucket
        return LinkReport(True, False, "links lead into this process's memory: nobody else can use them")

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        del bucket, key, upload_id

    def public_url(self, bucket: str, key: str) -> str:
        return f"{_SCHEME}://{bucket}/{quote(key)}"

    async def fetch(self, url: str) -> bytes | None:
        """Reads as a worker does, by a URL of this store."""
        return await self.read(*_place_of(url), max_bytes=2**62)

    async def upload(self, url: str, data: bytes) -> None:
        """Writes as a worker does, by a URL of this store."""
        await self.put(*_place_of(url), data, content_type="")

    async def creates_atomically(self, bucket: str) -> bool:
        del bucket
        return True

    async def ping(self) -> None:
        return

    async def check(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        return

    def _bucket(self, bucket: str) -> dict[str, StoredObject]:
        try:
            return self._objects[bucket]
        except KeyError as e:
            raise ObjectDenied(
                f"There is no bucket {bucket!r} here.", hint="Correct the bucket's name.", where=bucket
            ) from e

    def _head(self, bucket: str, key: str) -> ObjectMeta | None:
        found = self._bucket(bucket).get(check_key(key))
        return found.meta if found else None

    def _put(self, bucket: str, key: str, data: bytes, run_id: str) -> ObjectMeta:
        objects = self._bucket(bucket)
        _check_writable(key)
        modified = datetime.fromtimestamp(self._clock(), UTC)
        meta = ObjectMeta(key, len(data), f"{next(self._numbers):x}", modified, run_id=run_id)
        objects[key] = StoredObject(meta, bytes(data))
        return meta


def _check_writable(key: str) -> None:
    if check_key(key).endswith("/"):
        raise UnusableKey(f"The key {key!r} names no object.", hint="Name a file, not a folder.", where=key)


def _place_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme != _SCHEME:
        raise UnusableKey(f"{url!r} is no address of a store in memory.", hint="Use what `sign` gave.")
    return parts.netloc, unquote(parts.path.removeprefix("/"))
