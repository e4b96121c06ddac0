"""Objects: what the listener needs of a store, whatever stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from gpu_dispatch.task import PartUrls


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """One version of one object, as HEAD or a listing gives it. `etag` has no quotes.

    Only HEAD knows `version_id`; where there is none, both give the same `version`.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None = None
    run_id: str = ""
    """The run that wrote it, where its metadata says so; HEAD only."""

    @property
    def version(self) -> str:
        """Tells this version from every other one of the key: an overwrite with the same bytes is another version."""
        return self.version_id or f"{self.etag}@{self.last_modified.timestamp():.6f}"

    def may_be(self, version: str) -> bool:
        """Whether `version`, told of this key before, may be this one: the same bytes again are not told apart."""
        if version == self.version or version.startswith(f"{self.etag}@"):
            return True
        return self.version_id is None and "@" not in version


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object, read: all of `content` is `meta`'s."""

    meta: ObjectMeta
    content: bytes


@dataclass(frozen=True, slots=True)
class OddKey:
    """A key a listing met that cannot be worked with, and why."""

    key: str
    problem: str


@dataclass(frozen=True, slots=True)
class UploadInParts:
    """An upload that has begun: `id` is the store's. What nobody completes or aborts lies in the store, unseen."""

    id: str
    urls: PartUrls


@dataclass(frozen=True, slots=True)
class JobObjects:
    """What one job may touch, as (bucket, key): objects it reads, and places it writes."""

    reads: tuple[tuple[str, str], ...] = ()
    writes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What a worker could do with its job's links beyond its job, as it was tried in one bucket.

    `safe` None: it could not be found out. `narrowed`: they are signed with temporary keys that open the job's objects
    alone. `remedy` tells what to do where it is not safe.
    """

    safe: bool | None
    narrowed: bool
    detail: str
    remedy: str = ""


class JobLinks(Protocol):
    """Addresses of one job's objects, for its worker; they open nothing else where the store has a way to say so."""

    async def sign(self, method: Literal["GET", "PUT"], bucket: str, key: str, *, content_type: str = "") -> str:
        """An address to read or write the object with. `content_type`: what is written has this type, where given."""
        ...

    async def sign_parts(
        self, bucket: str, key: str, *, size_hint: int, part_bytes: int, content_type: str = ""
    ) -> UploadInParts | None:
        """Begins an upload of up to `size_hint` bytes in parts; None where one PUT takes any size."""
        ...


class Store(Protocol):
    """Keys are raw; one that ends in "/" is a folder, never an object.

    StoreUnavailable: try again; StoreDenied: do not; UnusableKey: no store holds such a key. Nothing there: None.
    """

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets drops are expected in; none: every bucket there is."""
        ...

    async def find_buckets(self) -> tuple[str, ...]:
        """Those buckets by name, also where it is every one. Raises StoreUnavailable and StoreDenied."""
        ...

    async def head(self, bucket: str, key: str) -> ObjectMeta | None: ...

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        """Its content; raises InputTooLarge, without reading it, above `max_bytes`."""
        ...

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        """As `read`, with the version that was read; `run_id` is not told."""
        ...

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        """All of `data` or nothing appears under `key`; `run_id` goes into its metadata where it has any."""
        ...

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> None:
        """Writes as `write` does, for who need not know what became of it: a request less."""
        ...

    async def create(self, bucket: str, key: str, data: bytes, *, content_type: str) -> bool:
        """Writes `data` unless there is an object under `key`; whether it did. Of several at once one does."""
        ...

    async def replace(
        self, bucket: str, key: str, data: bytes, *, content_type: str, expected: str | None, run_id: str = ""
    ) -> str | None:
        """Writes `data` if the ETag under `key` is `expected` (None: nothing is there); the new ETag, None: it is not.

        A store that heeds no conditions writes in any case.
        """
        ...

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raises UnusableKey or ObjectDenied where no object can ever be written under `key`. Asks no server."""
        ...

    async def delete(self, bucket: str, key: str) -> None:
        """A missing object is no error."""
        ...

    def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | OddKey]:
        """Every object whose key starts with `prefix`, streaming, in no order; no odd key ends it."""
        ...

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        """An address signed with the listener's own keys: for users to read with. Workers get `links`."""
        ...

    async def links(self, objects: JobObjects, *, lives_s: int) -> JobLinks:
        """Links for one job, each of which works for `lives_s`, or as long as the store lets links work.

        Raises StoreUnavailable, and StoreDenied where the store refuses keys that open so little.
        """
        ...

    async def try_links(self, bucket: str) -> LinkReport:
        """Tries with links of a job what a hostile worker would; objects appear below .gpudrop/, and are deleted."""
        ...

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        """Removes the parts of an upload that was not completed. One that is over is no error."""
        ...

    def public_url(self, bucket: str, key: str) -> str:
        """The object's plain address, as the old API gave it: good for whoever may read the bucket."""
        ...

    @property
    def trusted_hosts(self) -> tuple[str, ...]:
        """host:port of the store's own endpoint, which workers may reach even when it is private."""
        ...

    @property
    def longest_link_s(self) -> float:
        """No link for a job works longer than this."""
        ...

    @property
    def links_expire(self) -> bool:
        """Whether what `sign` gives stops working after a time."""
        ...

    async def reach(self) -> None:
        """Asks for what the buckets hold, with the keys in force. Raises StoreUnavailable and StoreDenied."""
        ...

    async def check(self) -> Mapping[str, str]:
        """One entry a bucket that cannot be used: what is wrong with it."""
        ...

    async def keeps_claims(self, bucket: str) -> bool:
        """Whether `create` is certain to succeed once, whoever else writes there at the same moment."""
        ...

    async def close(self) -> None: ...
