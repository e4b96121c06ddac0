"""Events from listing: finds what no other source told, after a gap, at the start and every so often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from listener.events import ObjectCreated
from listener.sources.base import Inbox
from listener.sources.delivery import Retries, deliver
from listener.store import ObjectMeta, OddKey, Store
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

_BATCH = 500
_BACKOFF_CAP_S = 60.0
_MAX_ODD_KEYS = 1000
_YOUNG_AGAIN = 5
"""Listings that met unsettled objects are repeated after this many times `settle_s`."""


class Known(Protocol):
    """What was taken in before."""

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        """Those of `metas` whose version is new. Raises StoreUnavailable when that cannot be told now."""
        ...


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """Seconds. Objects older than `look_back_s` when the source starts are left alone; None: nothing is too old.

    `settle_s` is for stores that show objects while they are written: what changed this recently waits for a later
    listing. `prefixes` narrows the listing of a bucket to those; a bucket that is not in it is listed whole.
    """

    interval_s: float = 60.0
    look_back_s: float | None = 86400.0
    settle_s: float = 0.0
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Listing:
    """One pass over a bucket: the times between which objects are of interest, and what came of it."""

    oldest: datetime | None
    youngest: datetime | None
    found: int = 0
    unsettled: bool = False


class Reconcile:
    """Every bucket is listed by itself, one listing at a time, in batches: memory does not grow with the bucket.

    `interesting(bucket, key)` says whether a key could start or end anything; the others are never looked up.
    """

    name = "reconcile"
    exclusive = True

    def __init__(
        self,
        store: Store,
        known: Known,
        interesting: Callable[[str, str], bool],
        settings: ReconcileSettings,
        *,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._store = store
        self._known = known
        self._interesting = interesting
        self._settings = settings
        self._now = now
        self._wanted = {bucket: asyncio.Event() for bucket in store.buckets}
        self._odd: set[tuple[str, str]] = set()

    def request(self, reason: str) -> None:
        """List soon. Requests during a listing lead to one more after it, however many they are."""
        log.debug("listing_requested", reason=reason)
        for wanted in self._wanted.values():
            wanted.set()

    async def run(self, inbox: Inbox) -> None:
        back = self._settings.look_back_s
        oldest = None if back is None else self._now() - timedelta(seconds=back)
        async with asyncio.TaskGroup() as group:
            for bucket in self._wanted:
                group.create_task(self._repeat(bucket, oldest, inbox))

    async def _repeat(self, bucket: str, oldest: datetime | None, inbox: Inbox) -> None:
        wanted = self._wanted[bucket]
        backoff = Retries(1.0, _BACKOFF_CAP_S)
        while True:
            wanted.clear()
            listing = _Listing(oldest, self._youngest())
            try:
                await self._list(bucket, listing, inbox)
            except GpuDropError as e:
                wait_s = backoff.next_s()
                told = {"bucket": bucket, "code": e.info.code, "error": str(e), "hint": e.info.hint}
                log.error("listing_failed", **told, retry_s=round(wait_s, 2))
                await asyncio.sleep(wait_s)
                continue
            backoff.reset()
            if listing.found:
                log.info("listing_found", bucket=bucket, objects=listing.found)
            await _set_or_later(wanted, self._pause_s(unsettled=listing.unsettled))

    async def _list(self, bucket: str, listing: _Listing, inbox: Inbox) -> None:
        batch: list[ObjectMeta] = []
        for prefix in self._settings.prefixes.get(bucket, ("",)):
            async for item in self._store.list(bucket, prefix):
                if isinstance(item, OddKey):
                    self._name_odd(bucket, item)
                elif self._concerns(bucket, item, listing):
                    batch.append(item)
                if len(batch) >= _BATCH:
                    listing.found += await self._tell(bucket, batch, inbox)
                    batch = []
        listing.found += await self._tell(bucket, batch, inbox)

    def _concerns(self, bucket: str, meta: ObjectMeta, listing: _Listing) -> bool:
        if listing.oldest is not None and meta.last_modified < listing.oldest:
            return False
        if not self._interesting(bucket, meta.key):
            return False
        if listing.youngest is not None and meta.last_modified > listing.youngest:
            listing.unsettled = True
            return False
        return True

    async def _tell(self, bucket: str, batch: Sequence[ObjectMeta], inbox: Inbox) -> int:
        """Returns how many objects of the batch were news."""
        if not batch:
            return 0
        news = await self._known.unknown(bucket, batch)
        await deliver(inbox, [ObjectCreated(bucket, meta.key, self.name) for meta in news], source=self.name)
        return len(news)

    def _youngest(self) -> datetime | None:
        settle_s = self._settings.settle_s
        return self._now() - timedelta(seconds=settle_s) if settle_s else None

    def _pause_s(self, *, unsettled: bool) -> float:
        interval_s = self._settings.interval_s
        return min(interval_s, self._settings.settle_s * _YOUNG_AGAIN) if unsettled else interval_s

    def _name_odd(self, bucket: str, item: OddKey) -> None:
        if (bucket, item.key) in self._odd or len(self._odd) >= _MAX_ODD_KEYS:
            return
        self._odd.add((bucket, item.key))
        log.warning("key_unusable", bucket=bucket, key=item.key[:200], problem=item.problem, hint="Rename the object.")


async def _set_or_later(event: asyncio.Event, at_most_s: float) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await event.wait()
    except TimeoutError:
        return
