"""A store where objects are put, and sources that tell of them: alike to a test, whatever lies between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from listener.events.event import ObjectCreated, ObjectEvent
from listener.ledger.objects import ObjectLedger
from listener.sources.base import Condition, EventSource
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import Store
from support.sources import Recorder, running

What = Literal["repeats", "remembers", "crowds"]
"""What some ways cannot: tell what is gone; tell again what was refused; tell later what came when nobody listened;
tell objects apart that come at the same time."""


@dataclass(frozen=True)
class Given:
    """What a bench is made from: the fixtures that its way needs, a folder of its own, what is to be undone."""

    fixtures: Mapping[str, Any]
    folder: Path
    ledger: ObjectLedger
    undo: AsyncExitStack


Parts = tuple[Store, Sequence[EventSource]]


@dataclass(frozen=True)
class Way:
    """`needs` are fixtures. `cannot` says why, and so does `without`, by odd keys that the store does not keep as they
    are. With `by_the_second` versions are told apart by whole seconds; `silent` names a source that hears nothing."""

    open: Callable[[Given], Awaitable[Parts]]
    needs: tuple[str, ...] = ()
    cannot: Mapping[What, str] = field(default_factory=dict[What, str])
    without: Mapping[str, str] = field(default_factory=dict[str, str])
    by_the_second: bool = False
    silent: str = ""


@dataclass(frozen=True)
class Bench:
    way: Way
    store: Store
    sources: tuple[EventSource, ...]
    ledger: ObjectLedger

    @property
    def bucket(self) -> str:
        return self.store.buckets[0]

    async def put(self, *keys: str) -> None:
        """Sixteen at a time; with a pause after each where they would be mistaken for one another."""
        apart_s = 0.05 if "crowds" in self.way.cannot else 0.0
        gate = asyncio.Semaphore(1 if apart_s else 16)

        async def write(key: str) -> None:
            async with gate:
                await self.store.write(self.bucket, key, b"x", content_type="text/html")
                await asyncio.sleep(apart_s)

        await asyncio.gather(*map(write, keys))

    def able(self, *wanted: What) -> Bench:
        """With a listing beside it, as a listener has one, where the way alone cannot."""
        if not self.way.cannot.keys() & set(wanted):
            return self
        return replace(self, sources=(*self.sources, listing(self.store, self.ledger, interval_s=3600)))


class Intake(Recorder):
    """Looks with HEAD at what it is told, as the listener does, and keeps what is there; `standing` is by source."""

    def __init__(self, bench: Bench, *, failures: int = 0) -> None:
        self._listings = [each for each in bench.sources if isinstance(each, Reconcile)]
        super().__init__(failures=failures, on_gap=self._list)
        self.standing: dict[str, Condition] = {}
        self._bench = bench

    def report(self, source: str, condition: Condition) -> None:
        self.standing[source] = condition
        super().report(source, condition)

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        # Whatever lasts longer than a test may still tell of an earlier one.
        events = [event for event in events if event.bucket == self._bench.bucket]
        if self.refused >= self._failures:
            there = await asyncio.gather(*map(self._there, events))
            events = [event for event, is_there in zip(events, there, strict=True) if is_there]
        if events:
            await super().accept(events)

    async def _there(self, event: ObjectEvent) -> bool:
        if not isinstance(event, ObjectCreated):
            await self._bench.ledger.forget(event.bucket, event.key)
            return True
        meta = await self._bench.store.head(event.bucket, event.key)
        if meta and self._listings:
            await self._bench.ledger.record_listed(event.bucket, meta)
        return meta is not None

    def _list(self, reason: str) -> None:
        for each in self._listings:
            each.request(reason)


@asynccontextmanager
async def listening(bench: Bench, *, failures: int = 0) -> AsyncIterator[Intake]:
    """The sources at work, past their start: what is put now they must tell."""
    inbox = Intake(bench, failures=failures)
    names = {source.name for source in bench.sources} - {bench.way.silent}
    async with running(inbox, *bench.sources):
        await inbox.until(lambda: all(name in inbox.standing and inbox.standing[name].ok for name in names))
        yield inbox


def listing(store: Store, ledger: ObjectLedger, *, interval_s: float) -> Reconcile:
    return Reconcile(store, ledger, lambda bucket, key: True, ReconcileSettings(interval_s))
