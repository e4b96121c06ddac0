"""Listings that miss nothing, whatever keys lie in the bucket.

obstore lists ten times faster than minio's client, but some keys stop it (a newline, an empty segment) and some it
tells wrong (folder markers lose their "/"). So: obstore as far as it can be relied on, from there minio's client, and
obstore again once the keys have become ordinary.
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
from listener.stores.base import ObjectMeta, OddKey
from listener.stores.s3.errors import error_from_code, s3_error
from manifests.errors import GpuDropError, ServerMisbehaves
from manifests.keys import key_problem
from manifests.task_groups import gathered

if TYPE_CHECKING:
    from obstore import ListStream
    from obstore import ObjectMeta as VendorMeta

REPLACED = "\ufffd"
"""What servers put where XML cannot carry a character: a key that holds it may be another one."""


def holds(key: str) -> bool:
    """Whether obstore can be given `key` (or the beginning of one) and sends it as it is; "" it can."""
    return not key or (not key_problem(key) and REPLACED not in key)


def before(prefix: str) -> str | None:
    """A text that comes before every key that starts with `prefix`, and behind most that come before those.

    None where there is none, and where none is needed: a folder is listed from its start.
    """
    if not prefix or prefix.endswith("/"):
        return None
    text = f"{prefix[:-1]}{chr(max(ord(prefix[-1]) - 1, 0))}~"
    return text if holds(text) else None


def is_past(key: str, folder: str, name: str) -> bool:
    """Whether no key that starts with `folder`/`name` comes behind `key`.

    True only where it is so both for servers that order keys by their bytes and for those that walk a tree of folders.
    """
    if not name:
        return False
    first = key[len(folder) + 1 if folder else 0 :].partition("/")[0]
    return first[: len(name)] > name


PAGE = 1000
HEADS_AT_ONCE = 16
MAX_EMPTY = 100
"""With more empty objects than this on a page, asking for each is dearer than having minio's client list them."""
MAX_CALM = 64
"""After each odd stretch obstore waits for twice as many ordinary pages as after the one before, but no more."""
WORTH_IT = 8
"""A try of obstore's that brought so many pages: after the next stretch it need not wait longer."""


class _Unreliable(Exception):
    """obstore met a key it cannot hold, or may have told wrong."""


def object_meta_of(found: VendorMeta, key: str) -> ObjectMeta:
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
class _Page:
    """`last` is the key the listing goes on behind; `ordinary`: obstore would have told the same."""

    items: Sequence[ObjectMeta | OddKey]
    last: str
    ordinary: bool


@dataclass(frozen=True, slots=True)
class BucketListing:
    """One bucket's listing. `timeout_s` bounds one page of PAGE keys.

    The server's own order is taken as it is; what it must keep is that it goes on behind a key it has listed.
    """

    client: Bucket
    exact: Minio
    bucket: str
    endpoint: str
    timeout_s: float

    async def objects(self, prefix: str) -> AsyncGenerator[ObjectMeta | OddKey]:
        """Every object whose key starts with `prefix`, folder markers left out.

        Raises StoreUnavailable, StoreDenied, and ServerMisbehaves for a listing that cannot be read.
        """
        last: str | None = None
        calm = 1
        while True:
            fast = 0
            if holds(prefix):
                try:
                    async with aclosing(self._fast(prefix, last)) as pages:
                        async for metas in pages:
                            last, fast = metas[-1].key, fast + 1
                            for meta in metas:
                                if meta.key.startswith(prefix):
                                    yield meta
                    return
                except _Unreliable:
                    pass
            calm = 1 if fast >= WORTH_IT or last is None else min(calm * 2, MAX_CALM)
            quiet = 0
            async with aclosing(self._exactly(prefix, last)) as pages:
                async for page in pages:
                    for item in page.items:
                        yield item
                    last = page.last
                    quiet = quiet + 1 if page.ordinary else 0
                    if quiet >= calm and holds(prefix) and holds(last) and not last.endswith("/"):
                        break
                else:
                    return

    async def _fast(self, prefix: str, after: str | None) -> AsyncGenerator[list[ObjectMeta]]:
        """obstore's pages behind `after`, none of them empty. It lists whole folders: others' keys come with them."""
        folder, _, name = prefix.rpartition("/")
        stream: ListStream[Sequence[VendorMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType]
            self.client, folder or None, offset=after or before(prefix), chunk_size=PAGE
        )
        while (page := await self._next(stream)) is not None:
            metas = await self._without_markers([object_meta_of(found, found["path"]) for found in page])
            if metas:
                yield metas
            if page and is_past(page[-1]["path"], folder, name):
                return

    async def _next(self, stream: ListStream[Sequence[VendorMeta]]) -> Sequence[VendorMeta] | None:
        asked = asyncio.ensure_future(anext(stream))
        asked.add_done_callback(_hear)
        try:
            async with asyncio.timeout(self.timeout_s):
                # Cut short, the request would be dropped outside obstore's own threads, and its client with it.
                page = await asyncio.shield(asked)
        except StopAsyncIteration:
            return None
        except InvalidPathError as e:
            raise _Unreliable from e
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise self._told(e) from e
        if any(REPLACED in found["path"] for found in page):
            raise _Unreliable
        return page

    async def _without_markers(self, metas: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """An empty object may be a folder marker that lost its "/": a HEAD tells, for then nothing lies at its key."""
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

        return await gathered(map(exists, keys))

    async def _exists(self, key: str) -> bool:
        try:
            async with asyncio.timeout(self.timeout_s):
                await obstore.head_async(self.client, key)
        except FileNotFoundError:
            return False
        except (BaseError, TimeoutError) as e:
            raise self._told(e) from e
        return True

    async def _exactly(self, prefix: str, after: str | None) -> AsyncGenerator[_Page]:
        found = self.exact.list_objects(self.bucket, prefix=prefix, recursive=True, start_after=after)
        while page := await self._take(found):
            metas: list[ObjectMeta] = []
            odd: list[OddKey] = []
            for each in page:
                key = each.object_name or ""
                if problem := key_problem(key):
                    odd.append(OddKey(key, problem))
                elif not key.endswith("/"):
                    metas.append(self._meta_of(each, key))
            doubtful = [meta.key for meta in metas if REPLACED in meta.key]
            empty = len(page) - sum(1 for meta in metas if meta.size)
            lost = {k for k, there in zip(doubtful, await self._exist(doubtful), strict=True) if not there}
            odd += [OddKey(key, "holds characters that the server's listing cannot tell") for key in sorted(lost)]
            kept = [meta for meta in metas if meta.key not in lost]
            ordinary = not odd and not doubtful and empty <= MAX_EMPTY
            yield _Page([*kept, *odd], page[-1].object_name or "", ordinary)

    async def _take(self, found: Iterator[Object]) -> list[Object]:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await asyncio.to_thread(lambda: list(islice(found, PAGE)))
        except S3Error as e:
            if e.code in ("XMinioInvalidResourceName", "XMinioInvalidObjectName"):
                # A prefix that no key of this server can have.
                return []
            raise _refused(e, "list", self.bucket, self.endpoint) from e
        except (MinioException, HTTPError, TimeoutError) as e:
            raise self._told(e) from e
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

    def _told(self, error: Exception) -> GpuDropError:
        return s3_error(error, doing="list", bucket=self.bucket, endpoint=self.endpoint)


async def bucket_names(client: Minio, endpoint: str, timeout_s: float) -> tuple[str, ...]:
    """Every bucket the keys may list. Raises StoreUnavailable and StoreDenied."""
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


def _hear(asked: asyncio.Future[Any]) -> None:
    """Nobody may be left who wants to know how it ended."""
    if not asked.cancelled():
        asked.exception()
