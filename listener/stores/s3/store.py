"""The store of MinIO, AWS S3 and other servers with the S3 API."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from listener import clock_skew
from listener.stores.base import JobObjects, LinkReport, ObjectMeta, StoredObject, UnlistableKey, too_large
from listener.stores.s3.clients import (
    CredentialSource,
    S3Settings,
    bucket_client,
    clock_ahead_s,
    connections,
    listing_client,
    object_address,
    read_ca,
)
from listener.stores.s3.conditions import CLAIM_PROBE, PROBE_KEY, ConditionalWrites, leaves_probe, refuses_second
from listener.stores.s3.errors import (
    check_bucket,
    has_no_reason,
    is_conflict,
    other_keys_may_do,
    s3_error,
    s3_error_code,
)
from listener.stores.s3.link_probe import LinkProbe
from listener.stores.s3.links import LinkMaker, S3JobLinks
from listener.stores.s3.listings import BucketListing, bucket_names, object_meta_of
from listener.stores.s3.metadata import RUN_METADATA, attributes_of, etag_of, is_marker, refuse_marker
from listener.stores.s3.presign import PartSigner, Signer
from manifests.errors import GpuDropError
from manifests.keys import check_key
from manifests.task_groups import gather_all

if TYPE_CHECKING:
    from obstore import PutResult

_T = TypeVar("_T")


class S3Store:
    """A `Store` over S3. Keys that end in "/" are folder markers: never found, never listed.

    The `version` from `head` is the versionId in a bucket with versioning, else ETag and Last-Modified in whole
    seconds, as HTTP gives them. A listing's times are cut to whole seconds, so both agree; but a listing has no
    versionIds, so only `head` gives the version in a bucket with versioning. Raises ConfigError if `ca_file` cannot be
    read.
    """

    links_expire = True

    def __init__(self, settings: S3Settings) -> None:
        self._keys = CredentialSource(settings.keys)
        self._settings = replace(settings, keys=self._keys)
        self._ca_pem = read_ca(settings)
        self._minio = listing_client(self._settings)
        self._parts = PartSigner(self._settings)
        self._links = LinkMaker(self._settings, self._parts)
        self._http = connections(self._settings)
        self._clients: dict[str, Bucket] = {}
        self._conditions = ConditionalWrites()

    @property
    def buckets(self) -> tuple[str, ...]:
        return self._settings.buckets

    async def find_buckets(self) -> tuple[str, ...]:
        if self.buckets:
            return self.buckets
        return await bucket_names(self._minio, self._settings.endpoint, self._settings.timeout_s)

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        return self._settings.trusted_hosts

    @property
    def longest_link_s(self) -> float:
        return self._links.longest_s

    async def head(self, bucket: str, key: str) -> ObjectMeta | None:
        """Sends a GET after a refused HEAD, whose answer has no body, to learn the reason."""
        if is_marker(key):
            return None
        try:
            client, path = self._client(bucket), check_key(key)
            try:
                return await self._metadata(client, path, head=True)
            except (BaseError, FileNotFoundError) as e:
                if not has_no_reason(e):
                    raise
            return await self._metadata(client, path, head=False)
        except FileNotFoundError as e:
            check_bucket(e, bucket, self._settings.endpoint)
            return None
        except (BaseError, TimeoutError) as e:
            raise await self._translated(e, f"look up {key!r}", bucket) from e

    async def _metadata(self, client: Bucket, path: str, *, head: bool) -> ObjectMeta:
        found = await self._with_retry(lambda: obstore.get_async(client, path, options={"head": head}))
        return replace(object_meta_of(found.meta, path), run_id=found.attributes.get(RUN_METADATA, ""))

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        found = await self.get(bucket, key, max_bytes=max_bytes)
        return found.content if found else None

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        if is_marker(key):
            return None
        client, path = self._client(bucket), check_key(key)

        async def whole() -> StoredObject:
            result = await obstore.get_async(client, path)
            size = result.meta["size"]
            if size > max_bytes:
                raise too_large(key, size, max_bytes)
            return StoredObject(object_meta_of(result.meta, key), bytes(await result.bytes_async()))

        try:
            return await self._with_retry(whole)
        except FileNotFoundError as e:
            check_bucket(e, bucket, self._settings.endpoint)
            return None
        except (BaseError, TimeoutError) as e:
            raise await self._translated(e, f"read {key!r}", bucket) from e

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        result = await self._put(bucket, key, data, content_type, run_id)
        etag, version = etag_of(result), result["version"]
        now = await self.head(bucket, key)
        if now is not None and now.etag == etag and (version is None or version == now.version_id):
            return now
        # Overwritten or deleted meanwhile, so the time of the write is unknown.
        return ObjectMeta(key, len(data), etag, datetime.fromtimestamp(0, UTC), version, run_id)

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> None:
        await self._put(bucket, key, data, content_type, run_id)

    async def create(self, bucket: str, key: str, data: bytes, *, content_type: str) -> bool:
        """Checks for the object first: a server without conditions overwrites only within a short race."""
        refuse_marker(key)
        if await self.head(bucket, key) is not None:
            return False
        attributes = attributes_of(content_type)
        try:
            client, path = self._client(bucket), check_key(key)
            await self._with_retry(lambda: self._conditions.create(client, path, data, attributes))
        except AlreadyExistsError as e:
            # 409: another write was under way and may have failed.
            if is_conflict(e) and await self.head(bucket, key) is None:
                raise await self._translated(e, f"write {key!r}", bucket) from e
            return False
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise await self._translated(e, f"write {key!r}", bucket) from e
        return True

    async def replace(
        self, bucket: str, key: str, data: bytes, *, content_type: str, expected: str | None, run_id: str = ""
    ) -> str | None:
        refuse_marker(key)
        attributes = attributes_of(content_type, run_id)
        try:
            client, path = self._client(bucket), check_key(key)
            return await self._with_retry(lambda: self._conditions.put_if(client, path, data, attributes, expected))
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise await self._translated(e, f"write {key!r}", bucket) from e

    async def check_writable(self, bucket: str, key: str) -> None:
        del bucket
        refuse_marker(check_key(key))

    async def delete(self, bucket: str, key: str) -> None:
        if is_marker(key):
            return
        try:
            client, path = self._client(bucket), check_key(key)
            await self._with_retry(lambda: obstore.delete_async(client, path))
        except FileNotFoundError as e:
            check_bucket(e, bucket, self._settings.endpoint)
        except (BaseError, TimeoutError) as e:
            raise await self._translated(e, f"delete {key!r}", bucket) from e

    def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        return self._listing(bucket).objects(prefix)

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        """Signs for at most seven days. Only Host is signed, so a writer may send any Content-Type."""
        del content_type
        refuse_marker(key)
        signer = Signer(self._settings, await asyncio.to_thread(self._keys))
        return signer.url(method, bucket, check_key(key), expires_s)

    async def links(self, objects: JobObjects, *, lifetime_s: int) -> S3JobLinks:
        return await self._links.links(objects, lifetime_s)

    async def probe_links(self, bucket: str) -> LinkReport:
        return await LinkProbe(self, self._links, self._parts, self._http).report(bucket)

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        await self._parts.abort(bucket, key, upload_id)

    def public_url(self, bucket: str, key: str) -> str:
        return object_address(self._settings, bucket, key)

    async def ping(self) -> None:
        for bucket in self.buckets:
            await self._probe(bucket)
        if not self.buckets:
            await self.find_buckets()

    async def check(self) -> Mapping[str, str]:
        """Lists each bucket and tries a write whose condition cannot hold; leaves no object and causes no event."""
        try:
            buckets = await self.find_buckets()
        except GpuDropError as e:
            return {"*": f"{e} {e.info.hint}".strip()}
        found = await gather_all(self._problem(bucket) for bucket in buckets)
        return {bucket: problem for bucket, problem in zip(buckets, found, strict=True) if problem}

    async def creates_atomically(self, bucket: str) -> bool:
        """Returns whether the second of two conditional writes is refused; an object appears and is deleted."""
        key = f"{CLAIM_PROBE}{uuid.uuid4().hex}"
        hidden: tuple[type[GpuDropError], ...] = (GpuDropError,)
        try:
            refused, hidden = await self._with_retry(lambda: refuses_second(self._client(bucket), key)), ()
            return refused
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise await self._translated(e, "write", bucket) from e
        finally:
            # MinIO closes a connection on which it has refused a write; a HEAD finds that out and is retried.
            with suppress(*hidden):
                await self.head(bucket, key)
                await self.delete(bucket, key)

    async def close(self) -> None:
        self._clients.clear()

    async def _problem(self, bucket: str) -> str:
        try:
            await self._probe(bucket)
            if await self._with_retry(lambda: leaves_probe(self._client(bucket))):
                await self.delete(bucket, PROBE_KEY)
        except (GpuDropError, BaseError, FileNotFoundError, TimeoutError) as e:
            told = e if isinstance(e, GpuDropError) else await self._translated(e, "write", bucket)
            return f"{told} {told.info.hint}".strip()
        return ""

    async def _probe(self, bucket: str) -> None:
        async with aclosing(self._listing(bucket).objects("")) as found:
            await anext(found, None)

    def _listing(self, bucket: str) -> BucketListing:
        settings = self._settings
        return BucketListing(self._client(bucket), self._minio, bucket, settings.endpoint, settings.timeout_s)

    def _client(self, bucket: str) -> Bucket:
        if bucket not in self._clients:
            self._clients[bucket] = bucket_client(self._settings, bucket, self._settings.endpoint, self._ca_pem)
        return self._clients[bucket]

    async def _put(self, bucket: str, key: str, data: bytes, content_type: str, run_id: str) -> PutResult:
        refuse_marker(key)
        attributes = attributes_of(content_type, run_id)
        try:
            client, path = self._client(bucket), check_key(key)
            return await self._with_retry(lambda: obstore.put_async(client, path, data, attributes=attributes))
        except (BaseError, FileNotFoundError, TimeoutError) as e:
            raise await self._translated(e, f"write {key!r}", bucket) from e

    async def _with_retry(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Runs `work` within the timeout, and once more if its keys were refused and others are in force now."""
        before = self._keys.last
        async with asyncio.timeout(self._settings.timeout_s):
            try:
                return await work()
            except BaseError as e:
                if before is None or not other_keys_may_do(e) or await asyncio.to_thread(self._keys) == before:
                    raise
                return await work()

    async def _translated(self, error: Exception, doing: str, bucket: str) -> GpuDropError:
        endpoint = self._settings.endpoint
        ahead_s = None
        if s3_error_code(error) in clock_skew.CODES and clock_skew.in_refusal(str(error)) is None:
            ahead_s = await asyncio.to_thread(clock_ahead_s, self._http, endpoint)
        return s3_error(error, doing=doing, bucket=bucket, endpoint=endpoint, ahead_s=ahead_s)
