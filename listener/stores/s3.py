"""Objects in MinIO, AWS S3 and every other store that speaks S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store as Bucket

from listener.store import ObjectMeta, OddKey
from listener.stores.s3_clients import (
    S3Settings,
    bucket_address,
    bucket_client,
    host_and_port,
    listing_client,
    read_ca,
)
from listener.stores.s3_errors import error_code, no_such_bucket, translate
from listener.stores.s3_listing import Listing, meta_of
from manifests.errors import GpuDropError, InputTooLarge, UnusableKey
from manifests.media import check_key

if TYPE_CHECKING:
    from obstore import Attributes

_T = TypeVar("_T")

RUN_METADATA = "gpudrop-run"
"""Read back as the header x-amz-meta-gpudrop-run."""
PROBE_KEY = ".gpudrop/write-check"
"""Never written: `check` asks for a write that must be refused."""


class S3Store:
    """A `Store` over S3. Keys ending in "/" are folder markers: never there, never listed.

    `version` of what `head` returns: the versionId where the bucket keeps versions, else ETag and Last-Modified in
    whole seconds, as HTTP gives them. A listing's times are cut to whole seconds too, so both agree; but a listing
    never knows versionIds, so in a bucket with versions only `head` tells the version.
    Built from its settings alone; raises ConfigError when `ca_file` cannot be read.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._ca_pem = read_ca(settings)
        self._minio = listing_client(settings)
        self._clients: dict[tuple[str, str], Bucket] = {}

    @property
    def buckets(self) -> tuple[str, ...]:
        return self._settings.buckets

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        ends = (self._settings.endpoint, self._settings.seen_endpoint)
        return tuple(dict.fromkeys(host_and_port(each) for each in ends))

    @property
    def links_expire(self) -> bool:
        return True

    async def head(self, bucket: str, key: str) -> ObjectMeta | None:
        """A bucket that does not exist looks like a missing object here; `check`, `list` and `write` tell it."""
        if _is_marker(key):
            return None
        try:
            looked = obstore.get_async(self._client(bucket), check_key(key), options={"head": True})
            found = await self._within(looked)
        except FileNotFoundError:
            return None
        except (BaseError, TimeoutError) as e:
            raise self._told(e, f"look up {key!r}", bucket) from e
        return replace(meta_of(found.meta, key), run_id=found.attributes.get(RUN_METADATA, ""))

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        if _is_marker(key):
            return None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                result = await obstore.get_async(self._client(bucket), check_key(key))
                size = result.meta["size"]
                if size > max_bytes:
                    raise _too_large(key, size, max_bytes)
                return bytes(await result.bytes_async())
        except FileNotFoundError as e:
            if error_code(e) == "NoSuchBucket":
                raise no_such_bucket(bucket, self._settings.endpoint) from e
            return None
        except (BaseError, TimeoutError) as e:
            raise self._told(e, f"read {key!r}", bucket) from e

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        _refuse_marker(key)
        attributes: Attributes = {"Content-Type": content_type}
        if run_id:
            attributes[RUN_METADATA] = run_id
        try:
            put = obstore.put_async(self._client(bucket), check_key(key), data, attributes=attributes)
            result = await self._within(put)
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise self._told(e, f"write {key!r}", bucket) from e
        etag, version = (result["e_tag"] or "").strip('"'), result["version"]
        now = await self.head(bucket, key)
        if now is not None and now.etag == etag and (version is None or version == now.version_id):
            return now
        # Overwritten or deleted meanwhile: what was written is no longer what a reader finds, and no time is known.
        return ObjectMeta(key, len(data), etag, datetime.fromtimestamp(0, UTC), version, run_id)

    async def delete(self, bucket: str, key: str) -> None:
        if _is_marker(key):
            return
        try:
            await self._within(obstore.delete_async(self._client(bucket), check_key(key)))
        except FileNotFoundError:
            return
        except (BaseError, TimeoutError) as e:
            raise self._told(e, f"delete {key!r}", bucket) from e

    def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | OddKey]:
        return self._listing(bucket).objects(prefix)

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        """At most seven days. Only the host is signed: whoever writes sends the Content-Type it likes."""
        del content_type
        _refuse_marker(key)
        client = self._client(bucket, self._settings.seen_endpoint)
        try:
            return await self._within(obstore.sign_async(client, method, check_key(key), timedelta(seconds=expires_s)))
        except (BaseError, TimeoutError) as e:
            raise self._told(e, f"sign {key!r}", bucket) from e

    def public_url(self, bucket: str, key: str) -> str:
        path_style = self._settings.path_style
        root = bucket_address(self._settings.seen_endpoint, bucket, path_style=path_style)
        return f"{root}/{f'{bucket}/' if path_style else ''}{quote(key, safe='/')}"

    async def check(self) -> Mapping[str, str]:
        """Looks, lists, and asks for a write whose condition cannot hold: nothing is left, no event is raised."""
        found = await asyncio.gather(*(self._problem(bucket) for bucket in self.buckets))
        return {bucket: problem for bucket, problem in zip(self.buckets, found, strict=True) if problem}

    async def close(self) -> None:
        self._clients.clear()

    async def _problem(self, bucket: str) -> str:
        try:
            async with aclosing(self._listing(bucket).objects("")) as found:
                await anext(found, None)
            await self._probe_write(bucket)
        except GpuDropError as e:
            return f"{e} {e.info.hint}".strip()
        return ""

    async def _probe_write(self, bucket: str) -> None:
        client = self._client(bucket)
        try:
            await self._within(obstore.put_async(client, PROBE_KEY, b"", mode={"e_tag": '"no-such-version"'}))
        except PreconditionError:
            return
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise self._told(e, "write", bucket) from e
        # A server that ignores conditions has written it.
        await self.delete(bucket, PROBE_KEY)

    def _listing(self, bucket: str) -> Listing:
        settings = self._settings
        return Listing(self._client(bucket), self._minio, bucket, settings.endpoint, settings.timeout_s)

    def _client(self, bucket: str, endpoint: str = "") -> Bucket:
        at = (bucket, endpoint or self._settings.endpoint)
        if at not in self._clients:
            self._clients[at] = bucket_client(self._settings, *at, self._ca_pem)
        return self._clients[at]

    async def _within(self, work: Awaitable[_T]) -> _T:
        async with asyncio.timeout(self._settings.timeout_s):
            return await work

    def _told(self, error: Exception, doing: str, bucket: str) -> GpuDropError:
        return translate(error, doing=doing, bucket=bucket, endpoint=self._settings.endpoint)


def _is_marker(key: str) -> bool:
    return key.endswith("/")


def _refuse_marker(key: str) -> None:
    if _is_marker(key):
        raise UnusableKey(f"The key {key!r} names a folder.", hint="Name an object: a key that does not end in '/'.")


def _too_large(key: str, size: int, max_bytes: int) -> InputTooLarge:
    return InputTooLarge(
        f"{key!r} has {size} bytes; at most {max_bytes} are read.", hint="Make it smaller, or split it.", where=key
    )
