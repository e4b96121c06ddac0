"""Lists one bucket, and delivers the objects that are new to the ledger and of interest.

The ledger keeps versions as HEAD shows them, and an object that a listing shows differently would be new every time.
So an object that is new twice in a row, unchanged, gets a HEAD: when the ledger knows that version, the listing's is
recorded as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from listener.events.event import ObjectCreated, ObjectRemoved
from listener.sources.base import Condition, Inbox, deliver
from listener.sources.reconcile.earlier_outputs import EarlierOutputs
from listener.sources.reconcile.removals import MissingObjects, StaleSidecars
from listener.stores.base import ObjectMeta, Store, UnlistableKey
from manifests.errors import GpuDropError
from manifests.names import SIDECAR_SUFFIXES
from manifests.task_groups import gather_all


@dataclass(frozen=True, slots=True)
class BucketListed:
    """The figures of a finished listing."""

    objects: int
    unusable: int
    """Unusable keys."""
    took_s: float
    """Seconds that the store needed."""


class BucketConditions:
    """The conditions of all buckets as one. A failed bucket is reported until it has been listed."""

    def __init__(self) -> None:
        self._listed: dict[str, BucketListed] = {}
        self._problem: dict[str, GpuDropError] = {}

    def listed(self, bucket: str, listed: BucketListed) -> Condition:
        self._listed[bucket] = listed
        self._problem.pop(bucket, None)
        return self.condition

    def failed(self, bucket: str, error: GpuDropError) -> Condition:
        """`bucket` is "" when the list of buckets failed."""
        self._problem[bucket] = error
        return self.condition

    def gone(self, bucket: str) -> Condition:
        self._listed.pop(bucket, None)
        self._problem.pop(bucket, None)
        return self.condition

    @property
    def condition(self) -> Condition:
        if self._problem:
            bucket, *others = sorted(self._problem)
            told = Condition.problem(self._problem[bucket])
            more = f" (and {_many(len(others), 'bucket')} more)" if others else ""
            return replace(told, detail=f"{told.detail}{more}")
        objects = sum(listed.objects for listed in self._listed.values())
        unusable = sum(listed.unusable for listed in self._listed.values())
        took_s = sum(listed.took_s for listed in self._listed.values())
        text = f"{_many(objects, 'object')} in {_many(len(self._listed), 'bucket')} listed in {took_s:.1f} s"
        return Condition(True, f"{text}, {_many(unusable, 'key')} unusable" if unusable else text)


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

MAX_NAMED = 1000
"""Unusable keys that are logged and counted; bounds memory and log."""
UNUSABLE = "unusable_key"


class UnusableKeys:
    """Reports each unusable key once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._named: set[tuple[str, str]] = set()

    def report(self, bucket: str, item: UnlistableKey, inbox: Inbox) -> None:
        at = (bucket, item.key)
        if at in self._named or len(self._named) >= MAX_NAMED:
            return
        self._named.add(at)
        inbox.count(self._source, UNUSABLE)
        log.warning("key_unusable", bucket=bucket, key=item.key[:200], problem=item.problem, hint="Rename the object.")
        if len(self._named) == MAX_NAMED:
            log.warning("keys_unusable", named=MAX_NAMED, hint="There may be more; they are not named any longer.")


MAX_REMEMBERED = 10_000
"""Objects per bucket; new ones beyond it are compared a listing later."""
MAX_HEADS = 16


class KnownVersions(Protocol):
    """The ledger's versions of objects that were taken in."""

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Returns those of `metas` whose version is new. Raises StoreUnavailable when that cannot be read now."""
        ...

    async def record_listed(self, bucket: str, meta: ObjectMeta) -> None:
        """Records a version as known. Raises StoreUnavailable when that cannot be recorded now."""
        ...


class UnlistableVersions:
    """Finds objects whose listed version differs from HEAD's, by hashes of what a bucket's last listing found new."""

    def __init__(self, store: Store, known: KnownVersions) -> None:
        self._store = store
        self._known = known
        self._before: dict[str, set[int]] = {}
        self._now: dict[str, set[int]] = {}
        self._warned: set[str] = set()

    def begin(self, bucket: str) -> None:
        """Notes that a listing of `bucket` begins."""
        self._before[bucket] = self._now.pop(bucket, set())

    async def new_versions(self, bucket: str, metas: Sequence[ObjectMeta]) -> list[ObjectMeta]:
        """Returns those of `metas`, all unknown to the ledger, that are new. Raises StoreUnavailable."""
        before = self._before.get(bucket, set())
        gate = asyncio.Semaphore(MAX_HEADS)

        async def settled(meta: ObjectMeta) -> bool:
            if _mark(meta) not in before:
                return False
            async with gate:
                return await self._is_known_by_head(bucket, meta)

        found = await gather_all(map(settled, metas))
        new = [meta for meta, old in zip(metas, found, strict=True) if not old]
        told = self._now.setdefault(bucket, set())
        told.update(_mark(meta) for meta in new[: MAX_REMEMBERED - len(told)])
        return new

    async def _is_known_by_head(self, bucket: str, listed: ObjectMeta) -> bool:
        """Returns whether the ledger knows the object's version as HEAD shows it; records the listed one then."""
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
        await self._known.record_listed(bucket, listed)
        return True


def _mark(meta: ObjectMeta) -> int:
    return hash((meta.key, meta.etag, meta.last_modified))


BATCH = 500
_FUTURE = timedelta(seconds=60)
"""A time this far ahead comes from a wrong clock."""


@dataclass(frozen=True, slots=True)
class ListingFilter:
    """Which objects of a bucket a listing delivers."""

    bucket: str
    prefixes: Sequence[str]
    oldest: datetime | None
    """Objects last modified before it are skipped; None: no limit."""
    youngest: datetime | None
    """Objects modified less than 60 s after it wait for a later listing; None: no limit."""


@dataclass(slots=True)
class ListingResult:
    """The outcome of a listing."""

    objects: int = 0
    unusable: int = 0
    new: int = 0
    gone: int = 0
    unsettled: bool = False
    """Objects were skipped because they may still be written."""
    telling_s: float = 0.0
    """Seconds that the ledger, the inbox and the sidecars took."""
    began: float = 0.0
    """Seconds on the lister's clock, as is `ended`."""
    ended: float = 0.0

    @property
    def listed(self) -> BucketListed:
        return BucketListed(self.objects, self.unusable, self.ended - self.began - self.telling_s)


@dataclass(frozen=True, slots=True)
class Lister:
    """Lists buckets, one pass at a time, in memory that does not grow with the bucket."""

    source: str
    store: Store
    known: KnownVersions
    interesting: Callable[[str, str], bool]
    """Whether a bucket's key could start or end a run; others are never looked up in the ledger."""
    unusable_keys: UnusableKeys
    unlistable: UnlistableVersions
    missing: MissingObjects
    sidecars: StaleSidecars | None
    earlier: EarlierOutputs | None
    clock: Callable[[], float]
    """Monotonic seconds."""

    async def list(self, wanted: ListingFilter, inbox: Inbox) -> ListingResult:
        """Lists one bucket and delivers what is new and what is gone. Raises the errors of the store and the ledger."""
        result = ListingResult(began=self.clock())
        if self.earlier:
            await self.earlier.learn(wanted.bucket, wanted.prefixes, wanted.oldest)
        self.unlistable.begin(wanted.bucket)
        await self.missing.begin(wanted.bucket)
        batch: list[ObjectMeta] = []
        for prefix in wanted.prefixes:
            async for item in self.store.list(wanted.bucket, prefix):
                if isinstance(item, UnlistableKey):
                    result.unusable += 1
                    self.unusable_keys.report(wanted.bucket, item, inbox)
                    continue
                result.objects += 1
                self.missing.mark_seen(wanted.bucket, item.key)
                if self.sidecars and item.key.endswith(SIDECAR_SUFFIXES):
                    await self._timed(self.sidecars.mark_seen(wanted.bucket, item), result)
                if self._concerns(item, wanted, result):
                    batch.append(item)
                if len(batch) >= BATCH:
                    await self._tell(wanted.bucket, batch, result, inbox)
                    batch = []
        await self._tell(wanted.bucket, batch, result, inbox)
        if self.sidecars:
            await self._timed(self.sidecars.listed(wanted.bucket), result)
        result.ended = self.clock()
        gone = self.missing.gone(wanted.bucket, wanted.prefixes)
        await deliver(inbox, [ObjectRemoved(wanted.bucket, key, self.source) for key in gone], source=self.source)
        result.gone = len(gone)
        return result

    async def _timed(self, work: Awaitable[None], result: ListingResult) -> None:
        """Awaits `work`, and leaves its time out of the store's."""
        began = self.clock()
        await work
        result.telling_s += self.clock() - began

    def _concerns(self, meta: ObjectMeta, wanted: ListingFilter, result: ListingResult) -> bool:
        if wanted.oldest is not None and meta.last_modified < wanted.oldest:
            return False
        if not self.interesting(wanted.bucket, meta.key):
            return False
        if wanted.youngest is not None and wanted.youngest < meta.last_modified < wanted.youngest + _FUTURE:
            result.unsettled = True
            return False
        return True

    async def _tell(self, bucket: str, batch: Sequence[ObjectMeta], result: ListingResult, inbox: Inbox) -> None:
        if not batch:
            return
        began = self.clock()
        unknown = await self.known.unknown(bucket, batch)
        new = await self.unlistable.new_versions(bucket, unknown) if unknown else []
        await deliver(inbox, [ObjectCreated(bucket, meta.key, self.source) for meta in new], source=self.source)
        result.new += len(new)
        result.telling_s += self.clock() - began
