"""Claims and answers that nobody cleared, removed once no worker's address can reach them; jobs' rows, much later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from listener.dispatch.marks import FOLDER
from listener.ledger.jobs import KEEP_S, JobLedger
from listener.store import ObjectMeta, Store
from manifests.errors import GpuDropError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sweeping")

EVERY_S = 6 * 3600.0
_AFTER_S = 3600.0


async def sweep_marks(store: Store, jobs: JobLedger, *, link_s: float, clock: Callable[[], float]) -> None:
    """At once, and then every few hours, until cancelled. `link_s`: how long workers' addresses work."""
    while True:
        try:
            await jobs.give_up(clock() - link_s)
            await jobs.forget(clock() - KEEP_S)
            for bucket in await store.find_buckets():
                await _sweep(store, bucket, clock() - link_s - _AFTER_S)
        except GpuDropError as e:
            log.warning("marks_not_swept", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(EVERY_S)


async def _sweep(store: Store, bucket: str, before: float) -> None:
    removed = 0
    async for item in store.list(bucket, FOLDER):
        if isinstance(item, ObjectMeta) and item.last_modified.timestamp() < before:
            await store.delete(bucket, item.key)
            removed += 1
    if removed:
        log.info("marks_swept", bucket=bucket, objects=removed)
