"""Complete listings of buckets with any keys.

obstore lists ten times faster than minio's client, but fails at some keys (a newline, an empty segment) and reports
others wrong (folder markers lose their "/"). So obstore lists until it becomes unreliable, then minio's client does,
and obstore again once the keys are ordinary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import obstore
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import S3Store as Bucket
from urllib3.exceptions import HTTPError

from listener import clock_skew
from listener.stores.base import ObjectMeta, UnlistableKey
from listener.stores.s3.errors import error_from_code, s3_error
from manifests.errors import GpuDropError, ServerMisbehaves
from manifests.keys import key_problem
from manifests.task_groups import gather_all

if TYPE_CHECKING:
    from obstore import ListStream
    from obstore import ObjectMeta as VendorMeta

REPLACED = "\ufffd"
"""What servers send for characters that XML cannot hold: a key that contains it may be another one."""


def obstore_can_list(key: str) -> bool:
    """Returns whether obstore sends `key`, or the start of one, unchanged; "" it does."""
    return not key or (not key_problem(key) and REPLACED not in key)


def offset_before(prefix: str) -> str | None:
    """Returns an offset before every key that starts with `prefix` and after most others before those.

    None if there is none or none is needed, because a folder is listed from its start.
    """
    if not prefix or prefix.endswith("/"):
        return None
    text = f"{prefix[:-1]}{chr(max(ord(prefix[-1]) - 1, 0))}~"
    return text if obstore_can_list(text) else None


def is_past(key: str, folder: str, name: str) -> bool:
    """Returns whether no key that starts with `folder`/`name` comes after `key`.

    True only if it holds both for servers that order keys by bytes and for those that walk a tree of folders.
    """
    if not name:
        return False
    first = key[len(folder) + 1 if folder else 0 :].partition("/")[0]
    return first[: len(name)] > name


PAGE = 1000
HEADS_AT_ONCE = 16
MAX_EMPTY = 100
"""Empty objects on a page above which a HEAD for each is slower than listing with minio's client."""
MAX_CALM = 64
"""The most ordinary pages in a row before obstore is used again; the number doubles after each failure of it."""
WORTH_IT = 8
"""If obstore lists this many pages before it fails, that number starts at 1 again."""


class _Unreliable(Exception):
    """obstore met a key that it cannot represent, or may have reported one wrong."""


def object_meta_of(found: VendorMeta, key: str) -> ObjectMeta:
    """Converts obstore's metadata: whole seconds as in HEAD, and ETags without quotes.

    Only a HEAD gives the version.
    """
    return ObjectMeta(
        key=key,
        size=found["size"],
        etag=(found["e_tag"] or "").strip('"'),
        last_modified=found["last_modified"].replace(microsecond=0),
        version_id=found["version"],
    )


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of minio's client."""

    items: Sequence[ObjectMeta | UnlistableKey]
    last: str
    """The key after which the listing continues."""
    ordinary: bool
    """Whether obstore would have listed the same."""


@dataclass(frozen=True, slots=True)
class BucketListing:
    """Lists one bucket in the server's order, which may be any that can continue after a listed key."""

    client: Bucket
    exact: Minio
    bucket: str
    endpoint: str
    timeout_s: float
    """Bounds one page of PAGE keys."""

    async def objects(self, prefix: str) -> AsyncGenerator[ObjectMeta | UnlistableKey]:
        """Yields every object whose key starts with `prefix`, without folder markers.

        Raises StoreUnavailable, StoreDenied, and ServerMisbehaves for a listing that cannot be read.
        """
        last: str | None = None
        needed = 1
        while True:
            fast = 0
            if obstore_can_list(prefix):
                try:
                    async with aclosing(self._obstore_pages(prefix, last)) as pages:
                        async for metas in pages:
                            last, fast = metas[-1].key, fast + 1
                            for meta in metas:
                                if meta.key.startswith(prefix):
                                    yield meta
                    return
                except _Unreliable:
                    pass
            needed = 1 if fast >= WORTH_IT or last is None else min(needed * 2, MAX_CALM)
            ordinary_pages = 0
            async with aclosing(self._minio_pages(prefix, last)) as pages:
                async for page in pages:
                    for item in page.items:
                        yield item
                    last = page.last
                    ordinary_pages = ordinary_pages + 1 if page.ordinary else 0
                    if (
                        ordinary_pages >= needed
                        and obstore_can_list(prefix)
                        and obstore_can_list(last)
                        and not last.endswith("/")
                    ):
                        break
                else:
                    return

    async def _obstore_pages(self, prefix: str, after: str | None) -> AsyncGenerator[list[ObjectMeta]]:
        """Yields obstore's pages after `after`, none empty. They hold other keys, too: obstore lists whole folders."""
        folder, _, name = prefix.rpartition("/")
        stream: ListStream[Sequence[VendorMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType]
            self.client, folder or None, offset=after or offset_before(prefix), chunk_size=PAGE
        )
        while (page := await self._next(stream)) is not None:
            metas = await self._without_markers([object_meta_of(found, found["path"]) for found in page])
            if metas:
                yield metas
            if page and is_past(page[-1]["path"], folder, name):
                return

    async def _next(self, stream: ListStream[Sequence[VendorMeta]]) -> Sequence[VendorMeta] | None:
        asked = asyncio.ensure_future(anext(stream))
        asked.add_done_callback(_retrieve_exception)
        try:
            async with asyncio.timeout(self.timeout_s):
                # A cancelled request would be dropped outside obstore's threads, and its client with it.
                page = await asyncio.shield(asked)
        except StopAsyncIteration:
            return None
        except InvalidPathError as e:
            raise _Unreliable from e
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise self._translated(e) from e
        if any(REPLACED in found["path"] for found in page):
            raise _Unreliable
        return page

    async def _without_markers(self, metas: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """Drops folder markers that lost their "/": empty objects for whose key a HEAD finds nothing."""
        empty = [meta.key for meta in metas if not meta.size]
        if len(empty) > MAX_EMPTY:
            raise _Unreliable
        there = dict(zip(empty, await self._exist(empty), strict=True))
        return [meta for meta in metas if meta.size or there[meta.key]]

    async def _exist(self, keys: Sequence[str]) -> list[bool]:
        gate = asyncio.Semaphore(HEADS_AT_ONCE)

        async def exists(key: str) -> bool:
            async with gate:
                return await self._exists(key)

        return await gather_all(map(exists, keys))

    async def _exists(self, key: str) -> bool:
        try:
            async with asyncio.timeout(self.timeout_s):
                await obstore.head_async(self.client, key)
        except FileNotFoundError:
            return False
        except (BaseError, TimeoutError) as e:
            raise self._translated(e) from e
        return True

    async def _minio_pages(self, prefix: str, after: str | None) -> AsyncGenerator[_Page]:
        found = self.exact.list_objects(self.bucket, prefix=prefix, recursive=True, start_after=after)
        while page := await self._take(found):
            metas: list[ObjectMeta] = []
            odd: list[UnlistableKey] = []
            for each in page:
                key = each.object_name or ""
                if problem := key_problem(key):
                    odd.append(UnlistableKey(key, problem))
                elif not key.endswith("/"):
                    metas.append(self._meta_of(each, key))
            doubtful = [meta.key for meta in metas if REPLACED in meta.key]
            empty = len(page) - sum(1 for meta in metas if meta.size)
            lost = {k for k, there in zip(doubtful, await self._exist(doubtful), strict=True) if not there}
            odd += [
                UnlistableKey(key, "holds characters that the server's listing cannot tell") for key in sorted(lost)
            ]
            kept = [meta for meta in metas if meta.key not in lost]
            ordinary = not odd and not doubtful and empty <= MAX_EMPTY
            yield _Page([*kept, *odd], page[-1].object_name or "", ordinary)

    async def _take(self, found: Iterator[Object]) -> list[Object]:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await asyncio.to_thread(lambda: list(islice(found, PAGE)))
        except S3Error as e:
            if e.code in ("XMinioInvalidResourceName", "XMinioInvalidObjectName"):
                # No key of this server can have the prefix.
                return []
            raise _refused(e, "list", self.bucket, self.endpoint) from e
        except (MinioException, HTTPError, TimeoutError) as e:
            raise self._translated(e) from e
        except (ParseError, ValueError) as e:
            raise self._unreadable(str(e)) from e

    def _meta_of(self, found: Object, key: str) -> ObjectMeta:
        if found.last_modified is None:
            raise self._unreadable(f"it gives no time for {key!r}")
        return ObjectMeta(
            key=key,
            size=found.size or 0,
            etag=(found.etag or "").strip('"'),
            last_modified=found.last_modified.replace(microsecond=0),
        )

    def _unreadable(self, why: str) -> ServerMisbehaves:
        return ServerMisbehaves(
            f"The listing of bucket {self.bucket!r} on {self.endpoint} cannot be read: {why[:300]}.",
            hint="Look for an object whose key holds control characters, and rename or delete it.",
            where=self.bucket,
        )

    def _translated(self, error: Exception) -> GpuDropError:
        return s3_error(error, doing="list", bucket=self.bucket, endpoint=self.endpoint)


async def bucket_names(client: Minio, endpoint: str, timeout_s: float) -> tuple[str, ...]:
    """Returns every bucket that the keys may list. Raises StoreUnavailable and StoreDenied."""
    try:
        async with asyncio.timeout(timeout_s):
            return tuple(bucket.name for bucket in await asyncio.to_thread(client.list_buckets))
    except S3Error as e:
        raise _refused(e, "list the buckets", "*", endpoint) from e
    except (MinioException, HTTPError, TimeoutError, ParseError, ValueError) as e:
        raise s3_error(e, doing="list the buckets", bucket="*", endpoint=endpoint) from e


def _refused(error: S3Error, doing: str, bucket: str, endpoint: str) -> GpuDropError:
    answer = error.response
    ahead_s = clock_skew.from_header(answer.headers.get("Date"), time.time()) if answer else None
    status = answer.status if answer else 0
    code, text = error.code or "", str(error)
    return error_from_code(code, status, text, doing=doing, bucket=bucket, endpoint=endpoint, ahead_s=ahead_s)


def _retrieve_exception(asked: asyncio.Future[Any]) -> None:
    """Retrieves the exception of a request whose caller may be gone, so that asyncio does not log it."""
    if not asked.cancelled():
        asked.exception()
