"""Reads documents of defaults, each once for all runs of a folder, and retries refusals of single objects."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from threading import Lock
from typing import TypeVar

from listener.processes.parsers import DocumentParsers
from listener.stores.base import Store
from manifests.defaults import Defaults, read_defaults
from manifests.errors import ErrorInfo, GpuDropError, ObjectDenied, StoreDenied
from manifests.models import Manifest
from manifests.references import ObjectRef

T = TypeVar("T")

REFUSED_S = 30.0
"""Seconds that a refusal of one object may last: keys and policies take a moment until they are in force."""
AGAIN_S = 2.0
"""Seconds between two tries."""


class Refusals:
    """Distinguishes the refusal of a single object from a store that refuses everything. The run's own drop decides:
    while that cannot be read, everything is refused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def check(self, drop: ObjectRef) -> None:
        """Checks that the store serves `drop`. Raises StoreDenied or StoreUnavailable when it does not."""
        await self._store.head(drop.bucket, drop.key)

    async def outlasted(self, work: Callable[[], Awaitable[T]], drop: ObjectRef, at_most_s: float) -> T:
        """Repeats `work`, on another object than `drop`, while that object is refused; returns its result. Raises
        ObjectDenied after `at_most_s`, and the store's error when `drop` is refused as well."""
        now = asyncio.get_running_loop().time
        until = now() + at_most_s
        while True:
            try:
                return await work()
            except ObjectDenied:
                raise
            except StoreDenied as e:
                await self.check(drop)
                if now() >= until:
                    raise object_refused(e) from e
            await asyncio.sleep(min(AGAIN_S, at_most_s))


def object_refused(error: StoreDenied, where: str = "") -> ObjectDenied:
    """Returns `error` as one about a single object."""
    return ObjectDenied(str(error), hint=error.info.hint, where=where or error.info.where)


MAX_BYTES = 64 * 2**10
"""Bytes of one document."""
MAX_TOGETHER = 256 * 2**10
"""Bytes of all documents that apply to one drop."""
MAX_LEVELS = 64
"""Folders above a drop that may hold defaults for it."""

_KEPT_BYTES = 2 * 2**20
"""Bytes of the documents that are cached; as objects they may take thirty times as much."""
_LEAST_BYTES = 2**10
"""Bytes that the shortest document counts for."""


class DefaultsReader:
    """Parses documents of defaults in threads of their own, and caches what they hold. A document is known by its key
    and content, and the content is fetched each time: no event is needed to notice changes."""

    def __init__(self, models: Mapping[str, type[Manifest]], parsers: DocumentParsers) -> None:
        self._models = models
        self._parsers = parsers
        self._lock = Lock()
        self._kept: OrderedDict[bytes, tuple[int, Defaults | ErrorInfo]] = OrderedDict()
        self._bytes = 0

    async def read(self, data: bytes, key: str) -> Defaults:
        """Returns what `data` holds. Raises ManifestError and related errors, naming `key`."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass") + b"\0" + data).digest()
        found = self._known(digest)
        if found is None:
            found = await self._parsers.run(len(data), self._parsed, digest, data, key)
        if isinstance(found, ErrorInfo):
            raise GpuDropError.from_info(found)
        return found

    def _parsed(self, digest: bytes, data: bytes, key: str) -> Defaults | ErrorInfo:
        """Parses a document, in a thread. Runs of one folder ask for it at once: the later ones find it parsed."""
        if (found := self._known(digest)) is not None:
            return found
        try:
            found = read_defaults(data, key, models=self._models)
        except GpuDropError as e:
            found = e.info
        self._keep(digest, max(len(data), _LEAST_BYTES), found)
        return found

    def _known(self, digest: bytes) -> Defaults | ErrorInfo | None:
        with self._lock:
            if (found := self._kept.get(digest)) is None:
                return None
            self._kept.move_to_end(digest)
            return found[1]

    def _keep(self, digest: bytes, size: int, found: Defaults | ErrorInfo) -> None:
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = size, found
                self._bytes += size
            while self._bytes > _KEPT_BYTES:
                _, (freed, _) = self._kept.popitem(last=False)
                self._bytes -= freed
