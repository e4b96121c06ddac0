"""Conditional writes, and the writes that probe a bucket."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store as Bucket

from listener.stores.s3.errors import is_interrupted, is_not_implemented, s3_error_code
from listener.stores.s3.metadata import etag_of

if TYPE_CHECKING:
    from obstore import Attributes, PutMode, PutResult, UpdateVersion

PROBE_KEY = ".gpudrop/write-check"
"""Not written by a correct server: the probe's condition cannot hold."""
CLAIM_PROBE = ".gpudrop/claim-check-"


async def leaves_probe(client: Bucket) -> bool:
    """Tries a write whose condition cannot hold; returns True if the server ignored it and wrote PROBE_KEY.

    The listener says at start which bucket it cannot write. A test object would start events, leave a delete marker in
    versioned buckets, and be found by users. A 403 means no right, 412 or 404 that the right is there; MinIO emits no
    event for it. Deleting is not tried in advance.
    """
    mode: UpdateVersion = {"e_tag": '"no-such-version"'}
    try:
        await obstore.put_async(client, PROBE_KEY, b"", mode=mode)
    except PreconditionError:
        return False
    except BaseError as e:
        if is_not_implemented(e):
            return False
        raise
    return True


async def refuses_second(client: Bucket, key: str) -> bool:
    """Writes `key` twice, each time on condition that it is absent; returns whether the second write was refused."""
    try:
        for _ in range(2):
            await obstore.put_async(client, key, b"", mode="create")
    except AlreadyExistsError:
        return True
    except BaseError as e:
        if not is_not_implemented(e):
            raise
    return False


class ConditionalWrites:
    """Writes on a condition; once a server does not implement conditions, writes without."""

    def __init__(self) -> None:
        self._unknown = False

    async def put_if(
        self, client: Bucket, path: str, data: bytes, attributes: Attributes, expected: str | None
    ) -> str | None:
        """Writes `data` if the ETag at `path` is `expected` (None: no object); returns the new ETag, else None.

        After a broken connection the outcome is unknown, and a retry by the client itself may be refused because its
        first request succeeded: so the object is compared with `data`. MinIO closes the connection after a refused
        condition; a write sent on that connection had no effect and is sent again.
        """
        try:
            etag = await self._put_if(client, path, data, attributes, expected)
        except BaseError as e:
            if not is_interrupted(e):
                raise
            if (found := await _etag_at(client, path)) == expected:
                etag = await self._put_if(client, path, data, attributes, expected)
            elif found == _etag_for(data):
                etag = found
            else:
                raise
        if etag is None and await _etag_at(client, path) == _etag_for(data):
            return _etag_for(data)
        return etag

    async def create(self, client: Bucket, path: str, data: bytes, attributes: Attributes) -> None:
        """Writes `data` if nothing is at `path`; raises obstore's AlreadyExistsError otherwise."""
        await self._put(client, path, data, attributes, "create")

    async def _put_if(
        self, client: Bucket, path: str, data: bytes, attributes: Attributes, expected: str | None
    ) -> str | None:
        try:
            mode: PutMode = "create" if expected is None else {"e_tag": f'"{expected}"'}
            return etag_of(await self._put(client, path, data, attributes, mode))
        except (AlreadyExistsError, PreconditionError) as e:
            if s3_error_code(e) == "NoSuchBucket":
                raise
            return None
        except (BaseError, FileNotFoundError) as e:
            if s3_error_code(e) == "NoSuchKey":
                return None
            raise

    async def _put(self, client: Bucket, path: str, data: bytes, attributes: Attributes, mode: PutMode) -> PutResult:
        if not self._unknown:
            try:
                return await obstore.put_async(client, path, data, attributes=attributes, mode=mode)
            except BaseError as e:
                if not is_not_implemented(e):
                    raise
            self._unknown = True
        return await obstore.put_async(client, path, data, attributes=attributes, mode="overwrite")


def _etag_for(data: bytes) -> str:
    """Returns the ETag that most servers give an object written in one piece; another server's never matches it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


async def _etag_at(client: Bucket, path: str) -> str | None:
    """Returns the ETag; None: no object."""
    try:
        return ((await obstore.head_async(client, path))["e_tag"] or "").strip('"')
    except FileNotFoundError:
        return None
