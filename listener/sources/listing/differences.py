"""Stores whose listings and HEADs do not agree about a version.

The ledger keeps versions as HEAD tells them. An object that a listing tells differently looks new at every listing;
so an object that is news again, exactly as it was before, is looked at: when its version as HEAD tells it is known,
the ledger is given the listing's as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from listener.store import ObjectMeta, Store
from manifests.error_groups import gathered
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

MAX_REMEMBERED = 10_000
"""Objects a bucket. With more news than that, those beyond it are looked at a listing later."""
LOOKS_AT_ONCE = 16


class KnownVersions(Protocol):
    """What was taken in before."""

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Those of `metas` whose version is new. Raises StoreUnavailable when that cannot be told now."""
        ...

    async def saw(self, bucket: str, meta: ObjectMeta) -> None:
        """From now on this version is known. Raises StoreUnavailable when that cannot be recorded now."""
        ...


class UnlistableVersions:
    """Remembers, by hashes, what a bucket's last listing told: an object that is news only once costs nothing else."""

    def __init__(self, store: Store, known: KnownVersions) -> None:
        self._store = store
        self._known = known
        self._before: dict[str, set[int]] = {}
        self._now: dict[str, set[int]] = {}
        self._warned: set[str] = set()

    def begin(self, bucket: str) -> None:
        """A listing of `bucket` begins."""
        self._before[bucket] = self._now.pop(bucket, set())

    async def news(self, bucket: str, metas: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """Those of `metas`, all unknown to the ledger, that are to be told. Raises StoreUnavailable."""
        before = self._before.get(bucket, set())
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def settled(meta: ObjectMeta) -> bool:
            if _mark(meta) not in before:
                return False
            async with gate:
                return await self._settled(bucket, meta)

        found = await gathered(map(settled, metas))
        news = [meta for meta, old in zip(metas, found, strict=True) if not old]
        told = self._now.setdefault(bucket, set())
        told.update(_mark(meta) for meta in news[: MAX_REMEMBERED - len(told)])
        return news

    async def _settled(self, bucket: str, listed: ObjectMeta) -> bool:
        """Whether what was listed is known under another name, which is recorded then."""
        try:
            now = await self._store.head(bucket, listed.key)
        except GpuDropError:
            return False
        if now is None or await self._known.unknown(bucket, [now]):
            return False
        if bucket not in self._warned:
            self._warned.add(bucket)
            ours = {"listed": listed.version, "head": now.version}
            log.info("listing_differs_from_head", bucket=bucket, key=listed.key, **ours)
        await self._known.saw(bucket, listed)
        return True


def _mark(meta: ObjectMeta) -> int:
    return hash((meta.key, meta.etag, meta.last_modified))
