"""Listings that miss nothing, whatever keys lie in the bucket.

obstore lists ten times faster than minio's client, but gives up at the first key it cannot hold (a newline, an empty
segment) and drops the "/" at the end of folder markers. So: obstore as far as it goes, from there minio's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import obstore
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import S3Store as Bucket
from urllib3.exceptions import HTTPError

from listener.store import ObjectMeta, OddKey
from listener.stores.s3_errors import from_code, translate
from manifests.errors import GpuDropError
from manifests.media import key_problem

if TYPE_CHECKING:
    from obstore import ListStream
    from obstore import ObjectMeta as VendorMeta

PAGE = 1000
HEADS_AT_ONCE = 16


class _Unreadable(Exception):
    """obstore met a key it cannot hold."""


def meta_of(found: VendorMeta, key: str) -> ObjectMeta:
    """obstore's record as ours: whole seconds, as HEAD has them, and ETags without quotes, everywhere the same.

    The version is there after a HEAD, never in a listing.
    """
    return ObjectMeta(
        key=key,
        size=found["size"],
        etag=(found["e_tag"] or "").strip('"'),
        last_modified=found["last_modified"].replace(microsecond=0),
        version_id=found["version"],
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """One bucket's listing. `timeout_s` bounds one page of PAGE keys."""

    client: Bucket
    exact: Minio
    bucket: str
    endpoint: str
    timeout_s: float

    async def objects(self, prefix: str) -> AsyncGenerator[ObjectMeta | OddKey]:
        """Every object whose key starts with `prefix`, folder markers left out."""
        last: str | None = None
        # obstore lists whole folders, and cannot hold a prefix that no usable key has.
        folder = prefix.rpartition("/")[0]
        if not folder or not key_problem(folder):
            stream: ListStream[Sequence[VendorMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType]
                self.client, folder or None, chunk_size=PAGE
            )
            try:
                while (page := await self._next(stream)) is not None:
                    for meta in await self._without_markers(page):
                        last = meta.key
                        if meta.key.startswith(prefix):
                            yield meta
                return
            except _Unreadable:
                pass
        async for item in self._exactly(prefix, last):
            yield item

    async def _next(self, stream: ListStream[Sequence[VendorMeta]]) -> Sequence[VendorMeta] | None:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await anext(stream)
        except StopAsyncIteration:
            return None
        except InvalidPathError as e:
            raise _Unreadable from e
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise self._told(e) from e

    async def _without_markers(self, page: Sequence[VendorMeta]) -> list[ObjectMeta]:
        """An empty object may be a folder marker that lost its "/": a HEAD tells, for then nothing lies at its key."""
        gate = asyncio.Semaphore(HEADS_AT_ONCE)

        async def there(meta: ObjectMeta) -> bool:
            if meta.size:
                return True
            async with gate:
                return await self._exists(meta.key)

        metas = [meta_of(found, found["path"]) for found in page]
        kept = await asyncio.gather(*(there(meta) for meta in metas if not meta.size))
        empty = iter(kept)
        return [meta for meta in metas if meta.size or next(empty)]

    async def _exists(self, key: str) -> bool:
        try:
            async with asyncio.timeout(self.timeout_s):
                await obstore.head_async(self.client, key)
        except FileNotFoundError:
            return False
        except (BaseError, TimeoutError) as e:
            raise self._told(e) from e
        return True

    async def _exactly(self, prefix: str, after: str | None) -> AsyncGenerator[ObjectMeta | OddKey]:
        found = self.exact.list_objects(self.bucket, prefix=prefix, recursive=True, start_after=after)
        while page := await self._take(found):
            for each in page:
                key = each.object_name or ""
                if problem := key_problem(key):
                    yield OddKey(key, problem)
                elif not key.endswith("/"):
                    yield _meta_of_minio(each, key)

    async def _take(self, found: Iterator[Object]) -> list[Object]:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await asyncio.to_thread(lambda: list(islice(found, PAGE)))
        except S3Error as e:
            if e.code == "XMinioInvalidResourceName":
                # A prefix that no key of this server can have.
                return []
            status = e.response.status if e.response else 0
            raise from_code(
                e.code or "", status, str(e), doing="list", bucket=self.bucket, endpoint=self.endpoint
            ) from e
        except (MinioException, HTTPError, TimeoutError) as e:
            raise self._told(e) from e

    def _told(self, error: Exception) -> GpuDropError:
        return translate(error, doing="list", bucket=self.bucket, endpoint=self.endpoint)


def _meta_of_minio(found: Object, key: str) -> ObjectMeta:
    if found.last_modified is None:
        raise ValueError(f"The listing gives no time for {key!r}.")
    return ObjectMeta(
        key=key,
        size=found.size or 0,
        etag=(found.etag or "").strip('"'),
        last_modified=found.last_modified.replace(microsecond=0),
    )
