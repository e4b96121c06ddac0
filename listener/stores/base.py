"""The interface of a store, and the types of its objects and links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from gpu_dispatch.task import PartUrls
from manifests.errors import InputTooLarge


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One version of one object, as HEAD or a listing gives it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Without quotes."""
    last_modified: datetime
    version_id: str | None = None
    """HEAD only; without one, HEAD and a listing give the same `version`."""
    run_id: str = ""
    """The run that wrote it, if its metadata says so; HEAD only."""

    @property
    def version(self) -> str:
        """Identifies this version of the key; an overwrite with the same bytes is another version."""
        return self.version_id or f"{self.etag}@{self.last_modified.timestamp():.6f}"

    def may_be(self, version: str) -> bool:
        """Returns False if `version`, recorded for this key, is certainly another one; equal bytes may be this one."""
        if version == self.version or version.startswith(f"{self.etag}@"):
            return True
        return self.version_id is None and "@" not in version


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object with its whole content."""

    meta: ObjectMeta
    content: bytes


@dataclass(frozen=True, slots=True)
class UnlistableKey:
    """A listed key that cannot be used, and why."""

    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class UploadInParts:
    """A multipart upload that has begun. Until it is completed or aborted, its parts use space unlisted."""

    id: str
    """The store's upload id."""
    urls: PartUrls


@dataclass(frozen=True, slots=True)
class JobObjects:
    """The objects that one job may read and write, each as (bucket, key)."""

    reads: tuple[tuple[str, str], ...] = ()
    writes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LinkReport:
    """The result of probing, in one bucket, what a worker could do with its links beyond its job."""

    safe: bool | None
    """None: unknown."""
    narrowed: bool
    """Whether links are signed with temporary keys that give access to the job's objects only."""
    detail: str
    remedy: str = ""
    """What to do if it is not safe."""


class JobLinks(Protocol):
    """Signs URLs of one job's objects for its worker; they give access to no others if the store can restrict them."""

    async def sign(self, method: Literal["GET", "PUT"], bucket: str, key: str, *, content_type: str = "") -> str:
        """Returns a URL to read or write the object. A `content_type` is part of the signature of a write."""
        ...

    async def sign_parts(
        self, bucket: str, key: str, *, size_hint: int, part_bytes: int, content_type: str = ""
    ) -> UploadInParts | None:
        """Begins a multipart upload of up to `size_hint` bytes; None where one PUT takes any size."""
        ...


@dataclass(frozen=True, slots=True)
class StoreLinks:
    """The links of a store whose own signed URLs may go to workers."""

    store: Store

    async def sign(self, method: Literal["GET", "PUT"], bucket: str, key: str, *, content_type: str = "") -> str:
        return await self.store.sign(method, bucket, key, expires_s=0, content_type=content_type)

    async def sign_parts(
        self, bucket: str, key: str, *, size_hint: int, part_bytes: int, content_type: str = ""
    ) -> None:
        """Returns None: one PUT takes any size."""
        del bucket, key, size_hint, part_bytes, content_type


class Store(Protocol):
    """Objects in buckets. Keys are unencoded; one that ends in "/" is a folder, never an object.

    Methods raise StoreUnavailable for what may pass, StoreDenied for what does not, and UnusableKey for a key that no
    store can hold. They return None where there is no object.
    """

    @property
    def buckets(self) -> tuple[str, ...]:
        """The configured buckets; empty: every bucket of the store."""
        ...

    async def find_buckets(self) -> tuple[str, ...]:
        """Returns the configured buckets, or the names of all. Raises StoreUnavailable and StoreDenied."""
        ...

    async def head(self, bucket: str, key: str) -> ObjectMeta | None: ...

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        """Returns the content. Raises InputTooLarge, without reading it, if it has more than `max_bytes`."""
        ...

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        """Reads as `read` does, and returns the version, too; its `run_id` is empty."""
        ...

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        """Writes all of `data` or nothing; `run_id` goes into the metadata if the store has any."""
        ...

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> None:
        """Writes as `write` does, with one request less: it does not return the version."""
        ...

    async def create(self, bucket: str, key: str, data: bytes, *, content_type: str) -> bool:
        """Writes `data` unless `key` exists; returns whether it did. One of several concurrent calls succeeds."""
        ...

    async def replace(
        self, bucket: str, key: str, data: bytes, *, content_type: str, expected: str | None, run_id: str = ""
    ) -> str | None:
        """Writes `data` if the ETag of `key` is `expected` (None: no object); returns the new ETag, else None.

        A store that ignores conditions writes in any case.
        """
        ...

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raises UnusableKey or ObjectDenied if `key` can never be written. Sends no request.

        A name longer than the file system takes, a file where a folder would be, or a folder that links elsewhere would
        let a paid job finish whose output cannot be stored. A run asks in `prepare`, and in `finish` for outputs known
        only then; one whose sidecars have no possible name ends with a dead letter before any work. A link that leads
        out is no object: an output or sidecar takes its place. Where a folder ignores case, gpudrop's own names count
        in any spelling.
        """
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """Deletes the object; a missing one is no error."""
        ...

    def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        """Yields every object whose key starts with `prefix`, in no order; unusable keys do not end the listing."""
        ...

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        """Returns a URL signed with the listener's own keys, for users; workers get `links`. `expires_s`: seconds."""
        ...

    async def links(self, objects: JobObjects, *, lifetime_s: int) -> JobLinks:
        """Returns the links of one job, valid for `lifetime_s` seconds or as long as the store allows.

        Raises StoreUnavailable, and StoreDenied if the store refuses temporary keys that are required.
        """
        ...

    async def probe_links(self, bucket: str) -> LinkReport:
        """Tries what a hostile worker could do with a job's links; writes objects below .gpudrop/ and deletes them."""
        ...

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        """Removes the parts of an incomplete upload. One that has ended is no error."""
        ...

    def public_url(self, bucket: str, key: str) -> str:
        """Returns the object's unsigned URL, for users who may read the bucket."""
        ...

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """host:port of the store's endpoints, which workers may reach although they are private."""
        ...

    @property
    def longest_link_s(self) -> float:
        """The longest life of a job's link, in seconds."""
        ...

    @property
    def links_expire(self) -> bool:
        """Whether URLs from `sign` expire."""
        ...

    async def ping(self) -> None:
        """Lists a little of each bucket with the current keys. Raises StoreUnavailable and StoreDenied."""
        ...

    async def check(self) -> Mapping[str, str]:
        """Returns the problem of each bucket that cannot be used, by bucket."""
        ...

    async def creates_atomically(self, bucket: str) -> bool:
        """Returns whether exactly one of several concurrent `create` calls for a key succeeds."""
        ...

    async def close(self) -> None: ...


def too_large(key: str, size: int, max_bytes: int) -> InputTooLarge:
    return InputTooLarge(
        f"{key!r} has {size} bytes; at most {max_bytes} are read.", hint="Make it smaller, or split it.", where=key
    )
