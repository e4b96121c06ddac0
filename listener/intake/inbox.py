"""The inbox of sources: records events, many in a transaction, before their sources acknowledge them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from gpu_dispatch.fair_queue import FairQueue
from listener.events.event import ObjectCreated, ObjectEvent
from listener.fairness import KEPT_FREE, root_folder, share_of, share_path
from listener.intake.decisions import latest
from listener.intake.source_status import SourceStatusRecorder
from listener.intake.unmatched import UnmatchedObjects
from listener.ledger.inbox import InboxEntry, InboxEvent, InboxLedger
from listener.signals import ObjectWaiters
from listener.sources.base import Condition
from listener.triggers.triggers import IgnoredEvent, TriggerBook
from manifests.errors import StoreUnavailable
from manifests.keys import key_problem
from manifests.names import is_reserved

ROOM = 4000
"""Entries up to which every share may hold more."""
_MOST = 4 * ROOM
"""Entries up to which a share that holds few may hold more."""


class Backlog:
    """The inbox entries that this listener holds; folders take turns, so that none delays another."""

    def __init__(self) -> None:
        self._items: FairQueue[InboxEntry] = FairQueue()
        self._changed = asyncio.Event()
        self.unclaimed = True
        """Whether entries may wait for a claim: some were not held, or reported again while a listener held them."""
        self.uncertain = False
        """Whether the ledger may hold more entries for this listener: it was unavailable, and its answers were lost."""

    def __len__(self) -> int:
        return len(self._items)

    def shares_with_room(self, keys: Iterable[tuple[str, str]]) -> frozenset[str]:
        """Returns the shares of these keys (bucket, key) that can be held; beyond `ROOM` those that hold few."""
        shares = Counter(share_of(bucket, key) for bucket, key in keys)
        if not self._items or len(self._items) + shares.total() <= ROOM:
            return frozenset(shares)
        if len(self._items) + shares.total() > _MOST:
            return frozenset()
        few = ROOM // KEPT_FREE
        held = {share: self._items.within(root_folder(share_path(share))) for share in shares}
        return frozenset(share for share, n in shares.items() if held[share] + n <= few)

    def put(self, entries: Iterable[InboxEntry], *, unclaimed: bool) -> None:
        self._push(entries)
        self.unclaimed = self.unclaimed or unclaimed
        self._changed.set()

    def mark_uncertain(self) -> None:
        self.uncertain = True
        self._changed.set()

    def restore(self, held: Iterable[InboxEntry]) -> None:
        """Adds what is missing of `held`, all that this listener holds. One that is being recorded may come twice."""
        here = {(entry.event.bucket, entry.event.key) for entry in self._items}
        self._push(entry for entry in held if (entry.event.bucket, entry.event.key) not in here)

    def take(self, limit: int) -> list[InboxEntry]:
        return [self._items.pop() for _ in range(min(limit, len(self._items)))]

    def _push(self, entries: Iterable[InboxEntry]) -> None:
        for entry in entries:
            self._items.push(share_path(share_of(entry.event.bucket, entry.event.key)), entry)

    async def wait(self, at_most_s: float) -> None:
        """Returns when something is put, or after `at_most_s` seconds."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.intake")

AT_ONCE = 250
"""Most rows of a transaction: it takes some 10 ms, and the next delivery waits not much longer."""
_READ_AT_ONCE = 200
"""Events that are read before other tasks of the event loop run."""


@dataclass(frozen=True, slots=True)
class InboxServices:
    """The collaborators of the inbox."""

    ledger: InboxLedger
    buckets: frozenset[str]
    """Buckets whose events count; empty: all."""
    triggers: TriggerBook
    object_waiters: ObjectWaiters
    source_status: SourceStatusRecorder
    backlog: Backlog
    clock: Callable[[], float]
    """Gives epoch seconds."""
    gap: Callable[[str], None]
    """Asks for a listing soon, with the reason."""
    unmatched: UnmatchedObjects = field(default_factory=UnmatchedObjects)


@dataclass(slots=True)
class _Delivery:
    """The events of one call of `accept`."""

    recorded: asyncio.Future[None]
    left: int
    """Keys that are not recorded yet."""


class DurableInbox:
    """The inbox that sources deliver to.

    Keys that arrive while a transaction is written share the next one. Folders take turns: a delivery of thousands in
    one folder leaves room in each transaction for all others.
    """

    def __init__(self, parts: InboxServices) -> None:
        self._services = parts
        self._waiting: FairQueue[tuple[InboxEvent, _Delivery]] = FairQueue()
        self._wake = asyncio.Event()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        found: list[InboxEvent] = []
        for i in range(0, len(events), _READ_AT_ONCE):
            found += self._interesting(events[i : i + _READ_AT_ONCE])
            if len(events) > _READ_AT_ONCE:
                await asyncio.sleep(0)
        newest = latest(found)
        if not newest:
            return
        delivery = _Delivery(asyncio.get_running_loop().create_future(), len(newest))
        for each in newest:
            self._waiting.push(share_path(share_of(each.bucket, each.key)), (each, delivery))
        self._wake.set()
        await delivery.recorded

    def gap(self, source: str, reason: str) -> None:
        log.debug("gap", source=source, reason=reason)
        self._services.gap(f"{source}: {reason}")

    def report(self, source: str, condition: Condition) -> None:
        self._services.source_status.report(source, condition)

    def count(self, source: str, what: str, n: int = 1) -> None:
        self._services.source_status.count(source, what, n)

    async def run(self) -> None:
        """Writes what is delivered, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next():
                await self._record(batch)

    def _interesting(self, events: Sequence[ObjectEvent]) -> Iterator[InboxEvent]:
        now = self._services.clock()
        for event in events:
            created = isinstance(event, ObjectCreated)
            if created:
                self._services.object_waiters.report(event.bucket, event.key)
            if reason := self._no_drop(event, created):
                self._services.source_status.count(event.source, reason)
                level = log.warning if key_problem(event.key) else log.debug
                level("event_ignored", source=event.source, bucket=event.bucket, key=event.key, reason=reason)
            else:
                moment, etag = (event.moment, event.etag) if isinstance(event, ObjectCreated) else (0, "")
                yield InboxEvent(event.bucket, event.key, created, event.source, now, moment, etag)

    def _no_drop(self, event: ObjectEvent, created: bool) -> str:
        """Returns why an object of this name can start or end no run; "" when it can.

        A removed object is matched with no trigger: the one that started its run may have been replaced.
        """
        if self._services.buckets and event.bucket not in self._services.buckets:
            return "a bucket of no concern"
        if created:
            found = self._services.triggers.match(event.bucket, event.key)
            if not isinstance(found, IgnoredEvent):
                return ""
            self._services.unmatched.tell(event.bucket, event.key, found)
            return found.reason
        if problem := key_problem(event.key):
            return f"the key {problem}"
        return "the key is reserved" if is_reserved(event.key) else ""

    def _next(self) -> list[tuple[InboxEvent, _Delivery]]:
        """Returns the keys of the next transaction, without those of failed deliveries, which come again with them."""
        batch: list[tuple[InboxEvent, _Delivery]] = []
        while self._waiting and len(batch) < AT_ONCE:
            each = self._waiting.pop()
            if not each[1].recorded.done():
                batch.append(each)
        return batch

    async def _record(self, batch: Sequence[tuple[InboxEvent, _Delivery]]) -> None:
        newest = latest([each for each, _ in batch])
        backlog = self._services.backlog
        hold = backlog.shares_with_room((each.bucket, each.key) for each in newest)
        try:
            fresh = await self._services.ledger.add(newest, hold=hold)
        except StoreUnavailable as e:
            backlog.mark_uncertain()
            for _, delivery in batch:
                if not delivery.recorded.done():
                    delivery.recorded.set_exception(StoreUnavailable(str(e), hint=e.info.hint))
            return
        backlog.put(fresh, unclaimed=len(fresh) < len(newest))
        for _, delivery in batch:
            delivery.left -= 1
            if not delivery.left and not delivery.recorded.done():
                delivery.recorded.set_result(None)
