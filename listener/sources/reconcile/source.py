"""Events from listing: finds drops and removals that no other source reported, at start, after gaps and periodically.

It needs nothing of the store but listings, so it also works alone where a store sends no events.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from gpu_dispatch.net.retries import LISTING, Failure, Retries, is_known
from listener.sources.base import Inbox
from listener.sources.reconcile.earlier_outputs import EarlierOutputs
from listener.sources.reconcile.lister import (
    BucketConditions,
    KnownVersions,
    Lister,
    ListingFilter,
    ListingResult,
    UnlistableVersions,
    UnusableKeys,
)
from listener.sources.reconcile.removals import ExpectedObjects, MissingObjects, StaleSidecars
from listener.stores.base import Store
from manifests.task_groups import task_group

PAUSE_FACTOR = 10
"""A pause is at least this many times as long as the listing before it took."""
UNSETTLED_FACTOR = 5
"""Listings that skipped objects as too young are repeated after this many times `settle_s`."""
JITTER = 0.1
"""Pauses vary by this fraction, so that buckets and listeners do not list in step."""


def pause_s(listing_s: float, interval_s: float, *, settle_s: float, unsettled: bool, rng: random.Random) -> float:
    """Returns seconds from the end of a listing to the next one without a request.

    `listing_s` is how long the store was busy; `unsettled`: objects were skipped because they may still be written.
    """
    wanted = min(interval_s, settle_s * UNSETTLED_FACTOR) if unsettled else interval_s
    return max(wanted * rng.uniform(1 - JITTER, 1 + JITTER), listing_s * PAUSE_FACTOR)


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

LISTINGS_AT_ONCE = 4


class ReconcileLedgers(KnownVersions, ExpectedObjects, Protocol):
    """What a listing reads from and records in the ledger."""


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """Settings of Reconcile, in seconds."""

    interval_s: float = 60.0
    """Between two listings of a bucket; more when a listing takes long (see `pause_s`)."""
    look_back_s: float | None = 86400.0
    """Objects older than this when the source is made are skipped; None: none is."""
    settle_s: float = 0.0
    """Objects modified this recently wait for a later listing, for stores that show objects while they are written."""


def _now() -> datetime:
    return datetime.now(UTC)


def _everything(bucket: str) -> Sequence[str]:
    del bucket
    return ("",)


@dataclass(frozen=True, slots=True)
class _RunState:
    """The state of one `run`."""

    inbox: Inbox
    group: asyncio.TaskGroup
    conditions: BucketConditions = field(default_factory=BucketConditions)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTINGS_AT_ONCE))
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])


class Reconcile:
    """Lists every bucket repeatedly, one listing per bucket at a time and LISTINGS_AT_ONCE in all.

    `interesting(bucket, key)`: whether a key could start or end a run; others are never looked up in the ledger.
    `prefixes(bucket)`: where those keys lie; called before each listing. `buckets`: returns the buckets' names; called
    every `interval_s`, and without it they are the store's.
    """

    name = "reconcile"
    exclusive = True

    def __init__(
        self,
        store: Store,
        known: ReconcileLedgers,
        interesting: Callable[[str, str], bool],
        settings: ReconcileSettings,
        *,
        prefixes: Callable[[str], Sequence[str]] = _everything,
        buckets: Callable[[], Awaitable[Sequence[str]]] | None = None,
        sidecars: StaleSidecars | None = None,
        earlier: EarlierOutputs | None = None,
        now: Callable[[], datetime] = _now,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._prefixes = prefixes
        self._buckets = buckets
        self._now = now
        # Not in `run`: a listener that takes the lead over must find what was dropped while none led.
        back = settings.look_back_s
        self._oldest = None if back is None else now() - timedelta(seconds=back)
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._lister = Lister(
            source=self.name,
            store=store,
            known=known,
            interesting=interesting,
            unusable_keys=UnusableKeys(self.name),
            unlistable=UnlistableVersions(store, known),
            missing=MissingObjects(known),
            sidecars=sidecars,
            earlier=earlier,
            clock=time.monotonic,
        )
        self._wanted: dict[str, asyncio.Event] = {}
        self._look_for_buckets = asyncio.Event()

    def request(self, reason: str, *, bucket: str | None = None) -> None:
        """Requests a listing soon, of one bucket or all. Requests during a listing lead to one more after it."""
        log.debug("listing_requested", reason=reason, bucket=bucket)
        for name, wanted in self._wanted.items():
            if bucket in (None, name):
                wanted.set()
        self._look_for_buckets.set()

    async def run(self, inbox: Inbox) -> None:
        self._wanted = {}
        async with task_group() as group:
            await self._follow_buckets(_RunState(inbox, group))

    async def _follow_buckets(self, round_: _RunState) -> None:
        conditions = round_.conditions

        def told(failure: Failure) -> None:
            error = failure.gpudrop_error
            log.error("buckets_unknown", code=error.info.code, error=str(error), hint=error.info.hint)
            round_.inbox.report(self.name, conditions.failed("", error))

        async def names() -> Sequence[str]:
            self._look_for_buckets.clear()
            return await self._buckets() if self._buckets else self._store.buckets

        while True:
            wait = partial(_wait_retry, self._look_for_buckets)
            found = await Retries(LISTING).call(names, on=is_known, on_failure=told, wait=wait)
            conditions.gone("")
            self._update_buckets(found, round_)
            await _wait_event(self._look_for_buckets, self._settings.interval_s if self._buckets else None)

    def _update_buckets(self, names: Sequence[str], round_: _RunState) -> None:
        for bucket in self._wanted.keys() - set(names):
            round_.tasks.pop(bucket).cancel()
            del self._wanted[bucket]
            log.info("bucket_gone", bucket=bucket)
            round_.inbox.report(self.name, round_.conditions.gone(bucket))
        for bucket in names:
            if bucket not in self._wanted:
                self._wanted[bucket] = asyncio.Event()
                round_.tasks[bucket] = round_.group.create_task(self._repeat(bucket, round_))

    async def _repeat(self, bucket: str, round_: _RunState) -> None:
        wanted = self._wanted[bucket]

        def told(failure: Failure) -> None:
            error = failure.gpudrop_error
            about = {"bucket": bucket, "code": error.info.code, "error": str(error), "hint": error.info.hint}
            log.error("listing_failed", **about, retry_s=round(failure.wait_s, 2))
            round_.inbox.report(self.name, round_.conditions.failed(bucket, error))

        async def listed() -> ListingResult:
            async with round_.gate:
                wanted.clear()
                return await self._list(bucket, round_)

        while True:
            wait = partial(_wait_retry, wanted)
            result = await Retries(LISTING).call(listed, on=is_known, on_failure=told, wait=wait)
            round_.inbox.report(self.name, round_.conditions.listed(bucket, result.listed))
            if result.new or result.gone:
                log.info("listing_found", bucket=bucket, objects=result.new, gone=result.gone)
            await _wait_event(wanted, self._pause_s(result))

    async def _list(self, bucket: str, round_: _RunState) -> ListingResult:
        settle_s = self._settings.settle_s
        youngest = self._now() - timedelta(seconds=settle_s) if settle_s else None
        return await self._lister.list(
            ListingFilter(bucket, self._prefixes(bucket), self._oldest, youngest), round_.inbox
        )

    def _pause_s(self, result: ListingResult) -> float:
        settings = self._settings
        return pause_s(
            result.listed.took_s,
            settings.interval_s,
            settle_s=settings.settle_s,
            unsettled=result.unsettled,
            rng=self._rng,
        )


async def _wait_event(event: asyncio.Event, at_most_s: float | None) -> None:
    try:
        async with asyncio.timeout(at_most_s):
            await event.wait()
    except TimeoutError:
        return


async def _wait_retry(event: asyncio.Event, failure: Failure) -> None:
    await _wait_event(event, failure.wait_s)
