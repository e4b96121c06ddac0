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
            # However old: after a long pause of ours they are all that is left of paid work.
            wanted = frozenset(row.task_id for row in await jobs.open_rows())
            for bucket in await store.find_buckets():
                await _sweep(store, bucket, clock() - link_s - _AFTER_S, wanted)
        except GpuDropError as e:
            log.warning("marks_not_swept", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(EVERY_S)


async def _sweep(store: Store, bucket: str, before: float, wanted: frozenset[str]) -> None:
    """`wanted`: tasks whose marks stay."""
    removed = 0
    async for item in store.list(bucket, FOLDER):
        if not isinstance(item, ObjectMeta) or item.last_modified.timestamp() >= before:
            continue
        if item.key.removeprefix(FOLDER).partition("/")[0] not in wanted:
            await store.delete(bucket, item.key)
            removed += 1
    if removed:
        log.info("marks_swept", bucket=bucket, objects=removed)
