"""A folder on this machine used like a bucket, for the local backend and for trying things out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from listener.stores.base import JobObjects, LinkReport, ObjectMeta, StoredObject, StoreLinks, UnlistableKey
from listener.stores.folder_files import FolderWalk, path_of, real_key
from listener.stores.folder_objects import FolderObjects
from manifests.errors import GpuDropError, ObjectDenied

PAGE = 500

_T = TypeVar("_T")


class FolderStore:
    """A `Store` whose one bucket is the folder `root`; the file "a/b c.mp3" has exactly that key.

    No key leads below `.gpudrop`, which belongs to this program. Listings leave out hidden and unfinished files
    (`folder_files.is_ignored`), which can still be read by their key. A link is followed if it stays inside. There is
    no metadata: `content_type` and `run_id` of `write` are not kept. Signed URLs are `file:` URLs for workers on this
    machine; they do not expire. A file changed twice within one tick of the file system's clock (some milliseconds),
    in place and without a new size, shows as one version.
    """

    def __init__(self, root: Path, bucket: str = "drop") -> None:
        self._root = Path(os.path.realpath(root))
        self._bucket = bucket
        self._objects = FolderObjects(self._root)

    @property
    def root(self) -> Path:
        return self._root

    @property
    def buckets(self) -> tuple[str, ...]:
        return (self._bucket,)

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
        """Raises ObjectDenied for a link that leads out of the folder, as `read` and `sign` do."""
        return await self._run(bucket, f"look up {key!r}", lambda: self._objects.head(key))

    async def read(self, bucket: str, key: str, *, max_bytes: int) -> bytes | None:
        found = await self.get(bucket, key, max_bytes=max_bytes)
        return found.content if found else None

    async def get(self, bucket: str, key: str, *, max_bytes: int) -> StoredObject | None:
        return await self._run(bucket, f"read {key!r}", lambda: self._objects.get(key, max_bytes))

    async def write(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> ObjectMeta:
        del content_type, run_id
        return await self._run(bucket, f"write {key!r}", lambda: self._objects.write(key, data))

    async def put(self, bucket: str, key: str, data: bytes, *, content_type: str, run_id: str = "") -> None:
        await self.write(bucket, key, data, content_type=content_type, run_id=run_id)

    async def create(self, bucket: str, key: str, data: bytes, *, content_type: str) -> bool:
        del content_type
        return await self._run(bucket, f"write {key!r}", lambda: self._objects.create(key, data))

    async def replace(
        self, bucket: str, key: str, data: bytes, *, content_type: str, expected: str | None, run_id: str = ""
    ) -> str | None:
        """Checks the ETag right before the rename; another program may write in between."""
        del content_type, run_id
        return await self._run(bucket, f"write {key!r}", lambda: self._objects.replace(key, data, expected))

    async def check_writable(self, bucket: str, key: str) -> None:
        """Refuses also a name too long for the file system, a file in place of a folder, and a link that leads out."""
        await self._run(bucket, f"write {key!r}", lambda: self._objects.check_writable(key))

    async def delete(self, bucket: str, key: str) -> None:
        """Deletes a link itself, not its target. Folders stay."""
        await self._run(bucket, f"delete {key!r}", lambda: self._objects.delete(key))

    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | UnlistableKey]:
        found = FolderWalk(self._root).objects(prefix)
        while page := await self._run(bucket, "list", lambda: list(islice(found, PAGE))):
            for item in page:
                yield item

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        del expires_s, content_type
        return await self._run(bucket, f"sign {key!r}", lambda: self._objects.signed(method, key))

    async def links(self, objects: JobObjects, *, lifetime_s: int) -> StoreLinks:
        del objects, lifetime_s
        return StoreLinks(self)

    async def probe_links(self, bucket: str) -> LinkReport:
        """Reports safe: a `file:` URL gives access to nothing that its user may not read anyway."""
        del bucket
        return LinkReport(True, False, "links are paths of this machine: they give no rights")

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        del bucket, key, upload_id

    def public_url(self, bucket: str, key: str) -> str:
        del bucket
        return path_of(self._root, key).as_uri()

    async def real_key(self, key: str) -> str:
        """Returns the key of the file that `key` leads to. Raises ObjectDenied for a link that leads out."""
        return await self._run(self._bucket, f"look up {key!r}", lambda: real_key(self._root, key))

    async def creates_atomically(self, bucket: str) -> bool:
        del bucket
        return True

    async def ping(self) -> None:
        await self._run(self._bucket, "list", self._objects.probe)

    async def check(self) -> Mapping[str, str]:
        """Checks the folder, and removes this program's unfinished files that are older than a day."""
        try:
            await self._run(self._bucket, "write", self._objects.check)
        except GpuDropError as e:
            return {self._bucket: f"{e} {e.info.hint}".strip()}
        return {}

    async def close(self) -> None:
        return

    async def _run(self, bucket: str, doing: str, work: Callable[[], _T]) -> _T:
        """Runs `work` in a thread and translates the operating system's errors."""
        if bucket != self._bucket:
            raise ObjectDenied(
                f"There is no bucket {bucket!r} here: the folder {self._root} is {self._bucket!r}.",
                hint="Correct the bucket's name.",
                where=bucket,
            )

        def told() -> _T:
            with self._objects.translated_errors(doing):
                return work()

        return await asyncio.to_thread(told)
