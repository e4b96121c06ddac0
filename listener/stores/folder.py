"""A folder on this machine, used like a bucket: for trying things out, and for the local backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from listener.stores.base import JobObjects, LinkReport, ObjectMeta, OddKey, StoredObject
from listener.stores.folder_files import FolderWalk, path_of, real_key
from listener.stores.folder_objects import FolderObjects
from manifests.errors import GpuDropError, ObjectDenied

PAGE = 500

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FolderLinks:
    store: FolderStore

    async def sign(self, method: Literal["GET", "PUT"], bucket: str, key: str, *, content_type: str = "") -> str:
        return await self.store.sign(method, bucket, key, expires_s=0, content_type=content_type)

    async def sign_parts(
        self, bucket: str, key: str, *, size_hint: int, part_bytes: int, content_type: str = ""
    ) -> None:
        """A file has no limit."""
        del bucket, key, size_hint, part_bytes, content_type


class FolderStore:
    """A `Store` whose one bucket is the folder `root`; the file "a/b c.mp3" has exactly that key.

    Below `.gpudrop` lies what belongs to this program: no key leads there. Listings leave out hidden and unfinished
    files (`folder_paths.is_ignored`), which can still be read by their key. A link is followed while it stays inside.
    There is no metadata: `content_type` and `run_id` of `write` are not kept. Signed addresses are `file:` URLs, good
    for workers on this machine; they do not expire. Files must not be changed in place within the time a file
    system's clock ticks (some milliseconds), or two versions look the same.
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
        """Looks right before the file is moved into its place: another program may write in that moment."""
        del content_type, run_id
        return await self._run(bucket, f"write {key!r}", lambda: self._objects.replace(key, data, expected))

    async def check_writable(self, bucket: str, key: str) -> None:
        """Also for a name that is too long here, a file where a folder would be, and a link that leads out."""
        await self._run(bucket, f"write {key!r}", lambda: self._objects.check_writable(key))

    async def delete(self, bucket: str, key: str) -> None:
        """A link is deleted, not what it leads to. Folders stay."""
        await self._run(bucket, f"delete {key!r}", lambda: self._objects.delete(key))

    async def list(self, bucket: str, prefix: str = "") -> AsyncIterator[ObjectMeta | OddKey]:
        found = FolderWalk(self._root).objects(prefix)
        while page := await self._run(bucket, "list", lambda: list(islice(found, PAGE))):
            for item in page:
                yield item

    async def sign(
        self, method: Literal["GET", "PUT"], bucket: str, key: str, *, expires_s: int, content_type: str = ""
    ) -> str:
        del expires_s, content_type
        return await self._run(bucket, f"sign {key!r}", lambda: self._objects.signed(method, key))

    async def links(self, objects: JobObjects, *, lives_s: int) -> FolderLinks:
        del objects, lives_s
        return FolderLinks(self)

    async def try_links(self, bucket: str) -> LinkReport:
        """A `file:` address is of use on this machine only, and to whoever may read the file anyway."""
        del bucket
        return LinkReport(True, False, "links are paths of this machine: they give no rights")

    async def abort_parts(self, bucket: str, key: str, upload_id: str) -> None:
        del bucket, key, upload_id

    def public_url(self, bucket: str, key: str) -> str:
        del bucket
        return path_of(self._root, key).as_uri()

    async def real_key(self, key: str) -> str:
        """Where `key` leads, links followed. Raises ObjectDenied for a link that leads out of the folder."""
        return await self._run(self._bucket, f"look up {key!r}", lambda: real_key(self._root, key))

    async def keeps_claims(self, bucket: str) -> bool:
        del bucket
        return True

    async def reach(self) -> None:
        await self._run(self._bucket, "list", self._objects.look)

    async def check(self) -> Mapping[str, str]:
        """Also removes unfinished files of ours that a crash left, once they are a day old."""
        try:
            await self._run(self._bucket, "write", self._objects.check)
        except GpuDropError as e:
            return {self._bucket: f"{e} {e.info.hint}".strip()}
        return {}

    async def close(self) -> None:
        return

    async def _run(self, bucket: str, doing: str, work: Callable[[], _T]) -> _T:
        """`work` off the event loop, what the operating system says about it in our errors."""
        if bucket != self._bucket:
            raise ObjectDenied(
                f"There is no bucket {bucket!r} here: the folder {self._root} is {self._bucket!r}.",
                hint="Correct the bucket's name.",
                where=bucket,
            )

        def told() -> _T:
            with self._objects.told(doing):
                return work()

        return await asyncio.to_thread(told)
