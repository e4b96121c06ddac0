"""Lists a bucket with Reconcile in a process of its own, and prints as JSON what that took.

python tests/support/listing_program.py ENDPOINT [known]

With "known" nothing is news, as in every listing but the first. Memory is in bytes, times in seconds; `late_s` is the
longest time the event loop was not free.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

import psutil

from listener.config.credentials import AccessKeys
from listener.events.event import ObjectEvent
from listener.sources.base import Condition
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import ObjectMeta
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from listener.triggers.triggers import MANIFESTS, Trigger, TriggerBook

TRIGGERS = (MANIFESTS, Trigger("audios", patterns=("*/audios/*.mp3",), manifest={}))
TICK_S = 0.005


class Ledger:
    def __init__(self, *, known: bool) -> None:
        self._known = known

    async def unknown(self, bucket: str, metas: Sequence[ObjectMeta]) -> Sequence[ObjectMeta]:
        return () if self._known else metas

    async def record_listed(self, bucket: str, meta: ObjectMeta) -> None: ...

    async def unfinished(self, bucket: str) -> Sequence[str]:
        return ()

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        return ()


class Counting:
    """An inbox that keeps nothing."""

    def __init__(self) -> None:
        self.events = 0
        self.odd = 0
        self.condition: asyncio.Future[Condition] = asyncio.get_running_loop().create_future()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        self.events += len(events)

    def gap(self, source: str, reason: str) -> None: ...

    def report(self, source: str, condition: Condition) -> None:
        if not self.condition.done():
            self.condition.set_result(condition)

    def count(self, source: str, what: str, n: int = 1) -> None:
        self.odd += n


async def ticking(late: list[float]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(TICK_S)
        late[0] = max(late[0], time.monotonic() - before - TICK_S)


async def watching(process: psutil.Process, peak: list[int]) -> None:
    while True:
        peak[0] = max(peak[0], process.memory_info().rss)
        await asyncio.sleep(0.05)


async def main(endpoint: str, *, known: bool) -> None:
    store = S3Store(S3Settings(endpoint, ("bucket",), keys=lambda: AccessKeys("key", "secret")))
    book = TriggerBook(TRIGGERS)
    settings = ReconcileSettings(3600.0, look_back_s=None)
    source = Reconcile(store, Ledger(known=known), book.interesting, settings, prefixes=book.prefixes)
    inbox, process, late = Counting(), psutil.Process(), [0.0]
    peak = [before := process.memory_info().rss]
    began, cpu = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in (source.run(inbox), ticking(late), watching(process, peak))]
        condition = await inbox.condition
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        for task in tasks:
            task.cancel()
    grown = max(peak[0], process.memory_info().rss) - before
    told = {"ok": condition.ok, "detail": condition.detail, "events": inbox.events, "odd": inbox.odd}
    print(json.dumps({**told, "took_s": took, "cpu_s": cpu, "grown": grown, "late_s": late[0]}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], known="known" in sys.argv[2:]))
