"""Where sources deliver: recorded in the durable inbox before anything is acknowledged, many events a transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from gpu_dispatch.fair_queue import FairQueue
from listener.events.event import ObjectCreated, ObjectEvent
from listener.fairness import KEPT_FREE, share_of, share_path
from listener.intake.decisions import latest
from listener.intake.source_status import SourceStatusRecorder
from listener.ledger.inbox import InboxEntry, InboxEvent, InboxLedger
from listener.signals import ObjectWaiters
from listener.sources.base import Condition
from listener.triggers.triggers import IgnoredEvent, TriggerBook
from manifests.errors import StoreUnavailable
from manifests.keys import key_problem
from manifests.names import is_reserved

ROOM = 4000
_MOST = 4 * ROOM


class Backlog:
    """Keys leave in fair turns: those of one folder hold up no other's."""

    def __init__(self) -> None:
        self._items: FairQueue[InboxEntry] = FairQueue()
        self._changed = asyncio.Event()
        self.others = True
        """Whether keys may wait for a claim: some were left there, or told again while somebody held them."""
        self.doubt = False
        """Whether the database may hold more for this listener than is here: it was away, and its answers with it."""

    def __len__(self) -> int:
        return len(self._items)

    def shares_with_room(self, keys: Iterable[tuple[str, str]]) -> frozenset[str]:
        """Of which shares these keys (bucket, key) can be held; once it is full, of those that hold few."""
        shares = Counter(share_of(bucket, key) for bucket, key in keys)
        if not self._items or len(self._items) + shares.total() <= ROOM:
            return frozenset(shares)
        if len(self._items) + shares.total() > _MOST:
            return frozenset()
        few = ROOM // KEPT_FREE
        return frozenset(share for share, n in shares.items() if self._items.within(share_path(share)[:2]) + n <= few)

    def put(self, items: Iterable[InboxEntry], *, others: bool) -> None:
        self._push(items)
        self.others = self.others or others
        self._changed.set()

    def doubted(self) -> None:
        self.doubt = True
        self._changed.set()

    def regain(self, held: Iterable[InboxEntry]) -> None:
        """What is not here of all that this listener holds. One that is being recorded now may come twice."""
        here = {(item.told.bucket, item.told.key) for item in self._items}
        self._push(item for item in held if (item.told.bucket, item.told.key) not in here)

    def take(self, limit: int) -> list[InboxEntry]:
        return [self._items.pop() for _ in range(min(limit, len(self._items)))]

    def _push(self, items: Iterable[InboxEntry]) -> None:
        for item in items:
            self._items.push(share_path(share_of(item.told.bucket, item.told.key)), item)

    async def wait(self, at_most_s: float) -> None:
        """Returns when something was put, or after `at_most_s`."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.intake")

AT_ONCE = 250
"""Rows a transaction: it takes some 10 ms, and nobody waits much longer than that for its turn."""
_READ_AT_ONCE = 200
"""Events that are read before others have their turn at the loop."""


@dataclass(frozen=True, slots=True)
class InboxServices:
    """`clock` gives epoch seconds; `gap` asks for a listing soon."""

    ledger: InboxLedger
    buckets: frozenset[str]
    """Those that matter; empty: every one."""
    triggers: TriggerBook
    object_waiters: ObjectWaiters
    source_status: SourceStatusRecorder
    backlog: Backlog
    clock: Callable[[], float]
    gap: Callable[[str], None]


@dataclass(slots=True)
class _Delivery:
    """`left` of its keys are not recorded yet."""

    recorded: asyncio.Future[None]
    left: int


class DurableInbox:
    """Keys that come while one transaction is written share the next one. Folders take turns: of a delivery of
    thousands in one folder so many go into each transaction as leave room for all others.
    """

    def __init__(self, parts: InboxServices) -> None:
        self._p = parts
        self._waiting: FairQueue[tuple[InboxEvent, _Delivery]] = FairQueue()
        self._wake = asyncio.Event()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        found: list[InboxEvent] = []
        for i in range(0, len(events), _READ_AT_ONCE):
            found += self._interesting(events[i : i + _READ_AT_ONCE])
            if len(events) > _READ_AT_ONCE:
                await asyncio.sleep(0)
        told = latest(found)
        if not told:
            return
        delivery = _Delivery(asyncio.get_running_loop().create_future(), len(told))
        for each in told:
            self._waiting.push(share_path(share_of(each.bucket, each.key)), (each, delivery))
        self._wake.set()
        await delivery.recorded

    def gap(self, source: str, reason: str) -> None:
        log.debug("gap", source=source, reason=reason)
        self._p.gap(f"{source}: {reason}")

    def report(self, source: str, condition: Condition) -> None:
        self._p.source_status.report(source, condition)

    def count(self, source: str, what: str, n: int = 1) -> None:
        self._p.source_status.count(source, what, n)

    async def run(self) -> None:
        """Writes what is delivered, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next():
                await self._record(batch)

    def _interesting(self, events: Sequence[ObjectEvent]) -> Iterator[InboxEvent]:
        now = self._p.clock()
        for event in events:
            created = isinstance(event, ObjectCreated)
            if created:
                self._p.object_waiters.tell(event.bucket, event.key)
            if reason := self._no_drop(event, created):
                self._p.source_status.count(event.source, reason)
                level = log.warning if key_problem(event.key) else log.debug
                level("event_ignored", source=event.source, bucket=event.bucket, key=event.key, reason=reason)
            else:
                moment, etag = (event.moment, event.etag) if isinstance(event, ObjectCreated) else (0, "")
                yield InboxEvent(event.bucket, event.key, created, event.source, now, moment, etag)

    def _no_drop(self, event: ObjectEvent, created: bool) -> str:
        """Why an object of this name can start or end nothing; "" when it can.

        A removed one may have started a run by a trigger that is no longer there.
        """
        if self._p.buckets and event.bucket not in self._p.buckets:
            return "a bucket of no concern"
        if created:
            found = self._p.triggers.match(event.bucket, event.key)
            return found.reason if isinstance(found, IgnoredEvent) else ""
        if problem := key_problem(event.key):
            return f"the key {problem}"
        return "the key is reserved" if is_reserved(event.key) else ""

    def _next(self) -> list[tuple[InboxEvent, _Delivery]]:
        """The keys of the next transaction; those whose delivery has failed come again with it."""
        batch: list[tuple[InboxEvent, _Delivery]] = []
        while self._waiting and len(batch) < AT_ONCE:
            each = self._waiting.pop()
            if not each[1].recorded.done():
                batch.append(each)
        return batch

    async def _record(self, batch: Sequence[tuple[InboxEvent, _Delivery]]) -> None:
        told = latest([each for each, _ in batch])
        backlog = self._p.backlog
        hold = backlog.shares_with_room((each.bucket, each.key) for each in told)
        try:
            fresh = await self._p.ledger.add(told, hold=hold)
        except StoreUnavailable as e:
            backlog.doubted()
            for _, delivery in batch:
                if not delivery.recorded.done():
                    delivery.recorded.set_exception(StoreUnavailable(str(e), hint=e.info.hint))
            return
        backlog.put(fresh, others=len(fresh) < len(told))
        for _, delivery in batch:
            delivery.left -= 1
            if not delivery.left and not delivery.recorded.done():
                delivery.recorded.set_result(None)
