"""One pass over a bucket: what is listed, filtered by key and age, asked of the ledger in batches, and told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from listener.events import ObjectCreated, ObjectRemoved
from listener.sources.base import Inbox
from listener.sources.delivery import deliver
from listener.sources.listing.differences import KnownVersions, UnlistableVersions
from listener.sources.listing.earlier_outputs import EarlierOutputs
from listener.sources.listing.missing import MissingObjects
from listener.sources.listing.oddities import UnusableKeys
from listener.sources.listing.stale_sidecars import StaleSidecars
from listener.sources.listing.standing import BucketListed
from listener.store import ObjectMeta, OddKey, Store
from manifests.names import SIDECAR_SUFFIXES

BATCH = 500
_FUTURE = timedelta(seconds=60)
"""A time so far ahead tells nothing of when an object was last touched: a clock is, or was, wrong."""


@dataclass(frozen=True, slots=True)
class ListingFilter:
    """Objects last changed between `oldest` and `youngest`, or in the future, are of interest; None: no such limit."""

    bucket: str
    prefixes: Sequence[str]
    oldest: datetime | None
    youngest: datetime | None


@dataclass(slots=True)
class ListingResult:
    """What came of it. `telling_s` is what ledger and inbox took, `unsettled` whether objects were too young."""

    objects: int = 0
    odd: int = 0
    news: int = 0
    gone: int = 0
    unsettled: bool = False
    telling_s: float = 0.0
    began: float = 0.0
    ended: float = 0.0

    @property
    def listed(self) -> BucketListed:
        return BucketListed(self.objects, self.odd, self.ended - self.began - self.telling_s)


@dataclass(frozen=True, slots=True)
class Lister:
    """`interesting(bucket, key)` says whether a key could start or end anything; the others are never asked about.

    Memory does not grow with the bucket. `clock` counts seconds.
    """

    source: str
    store: Store
    known: KnownVersions
    interesting: Callable[[str, str], bool]
    odd_keys: UnusableKeys
    differences: UnlistableVersions
    missing: MissingObjects
    sidecars: StaleSidecars | None
    earlier: EarlierOutputs | None
    clock: Callable[[], float]

    async def list(self, wanted: ListingFilter, inbox: Inbox) -> ListingResult:
        """Raises what the store's `list` and the ledger raise."""
        passed = ListingResult(began=self.clock())
        if self.earlier:
            await self.earlier.learn(wanted.bucket, wanted.prefixes, wanted.oldest)
        self.differences.begin(wanted.bucket)
        await self.missing.begin(wanted.bucket)
        batch: list[ObjectMeta] = []
        for prefix in wanted.prefixes:
            async for item in self.store.list(wanted.bucket, prefix):
                if isinstance(item, OddKey):
                    passed.odd += 1
                    self.odd_keys.tell(wanted.bucket, item, inbox)
                    continue
                passed.objects += 1
                self.missing.met(wanted.bucket, item.key)
                if self.sidecars and item.key.endswith(SIDECAR_SUFFIXES):
                    await self._timed(self.sidecars.met(wanted.bucket, item), passed)
                if self._concerns(item, wanted, passed):
                    batch.append(item)
                if len(batch) >= BATCH:
                    await self._tell(wanted.bucket, batch, passed, inbox)
                    batch = []
        await self._tell(wanted.bucket, batch, passed, inbox)
        if self.sidecars:
            await self._timed(self.sidecars.listed(wanted.bucket), passed)
        passed.ended = self.clock()
        gone = self.missing.gone(wanted.bucket, wanted.prefixes)
        await deliver(inbox, [ObjectRemoved(wanted.bucket, key, self.source) for key in gone], source=self.source)
        passed.gone = len(gone)
        return passed

    async def _timed(self, work: Awaitable[None], passed: ListingResult) -> None:
        """`work` is not the store's time for listing."""
        began = self.clock()
        await work
        passed.telling_s += self.clock() - began

    def _concerns(self, meta: ObjectMeta, wanted: ListingFilter, passed: ListingResult) -> bool:
        if wanted.oldest is not None and meta.last_modified < wanted.oldest:
            return False
        if not self.interesting(wanted.bucket, meta.key):
            return False
        if wanted.youngest is not None and wanted.youngest < meta.last_modified < wanted.youngest + _FUTURE:
            passed.unsettled = True
            return False
        return True

    async def _tell(self, bucket: str, batch: Sequence[ObjectMeta], passed: ListingResult, inbox: Inbox) -> None:
        if not batch:
            return
        began = self.clock()
        unknown = await self.known.unknown(bucket, batch)
        news = await self.differences.news(bucket, unknown) if unknown else []
        await deliver(inbox, [ObjectCreated(bucket, meta.key, self.source) for meta in news], source=self.source)
        passed.news += len(news)
        passed.telling_s += self.clock() - began
