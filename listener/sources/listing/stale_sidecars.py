"""Sidecars that a listing meets and that no run stands behind any more: they are removed.

A request may be carried out long after whoever made it has given it up or was killed: then a status lies beside the
last word of its run, or the last word of a replaced run beside the newer one's. Only statuses cost requests, each
version of one once while its run goes on, and finals of both kinds beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from listener.ledger.run_rows import RunRow
from listener.store import ObjectMeta, Store
from manifests.endings import writer_of
from manifests.error_groups import gathered
from manifests.errors import GpuDropError, InputTooLarge
from manifests.names import Sidecar, sidecar_parts
from manifests.sidecars import MAX_BYTES

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

BATCH = 500
AT_ONCE = 16
MAX_REMEMBERED = 10_000
_LATELY = 2000
"""Final sidecars among which the other one of a drop is looked for: a listing meets both soon after each other."""
_FINAL: tuple[Sidecar, ...] = ("done", "error")


class KnownRuns(Protocol):
    async def rows(self, run_ids: Sequence[str]) -> Mapping[str, RunRow]:
        """Those of them that are on record, by id. Raises StoreUnavailable."""
        ...


@dataclass(slots=True)
class _Met:
    """What a listing has met and nobody has looked at: statuses, and drops with finals of both kinds."""

    statuses: list[ObjectMeta] = field(default_factory=list[ObjectMeta])
    both: set[str] = field(default_factory=set[str])
    finals: dict[str, None] = field(default_factory=dict[str, None])


class StaleSidecars:
    def __init__(self, store: Store, runs: KnownRuns) -> None:
        self._store = store
        self._runs = runs
        self._met: dict[str, _Met] = {}
        self._writers: dict[tuple[str, str], tuple[str, str]] = {}
        """Who wrote a status, by bucket and key, with the ETag it had then."""

    async def met(self, bucket: str, meta: ObjectMeta) -> None:
        parts = sidecar_parts(meta.key)
        if parts is None:
            return
        met = self._met.setdefault(bucket, _Met())
        path, kind = parts
        if kind == "status":
            met.statuses.append(meta)
        elif path in met.finals:
            met.both.add(path)
        else:
            met.finals[path] = None
            if len(met.finals) > _LATELY:
                del met.finals[next(iter(met.finals))]
        if len(met.statuses) + len(met.both) >= BATCH:
            await self._sweep(bucket, met)

    async def listed(self, bucket: str) -> None:
        """The listing has ended."""
        if met := self._met.pop(bucket, None):
            await self._sweep(bucket, met)

    async def _sweep(self, bucket: str, met: _Met) -> None:
        """What cannot be looked at or removed now is met again by the next listing."""
        statuses, both = met.statuses, met.both
        met.statuses, met.both = [], set()
        gate = asyncio.Semaphore(AT_ONCE)

        async def quietly(key: str, work: Callable[[], Awaitable[None]]) -> None:
            async with gate:
                try:
                    await work()
                except GpuDropError as e:
                    log.info("sidecar_not_swept", bucket=bucket, key=key, code=e.info.code, error=str(e))

        await gathered(quietly(meta.key, partial(self._learn, bucket, meta)) for meta in statuses)
        try:
            writers = {meta.key: self._writers.get((bucket, meta.key), ("", ""))[1] for meta in statuses}
            rows = await self._runs.rows([run_id for run_id in writers.values() if run_id])
        except GpuDropError as e:
            log.info("sidecars_not_swept", bucket=bucket, code=e.info.code, error=str(e))
            return
        closed = [key for key, run_id in writers.items() if run_id and not (run_id in rows and not rows[run_id].ended)]
        works = [(key, partial(self._status, bucket, key, writers[key], rows.get(writers[key]))) for key in closed]
        works += [(path, partial(self._finals, bucket, path)) for path in both]
        await gathered(quietly(key, work) for key, work in works)

    async def _learn(self, bucket: str, meta: ObjectMeta) -> None:
        at = (bucket, meta.key)
        if self._writers.get(at, ("", ""))[0] == meta.etag:
            return
        self._writers.pop(at, None)
        if len(self._writers) >= MAX_REMEMBERED:
            self._writers.clear()
        self._writers[at] = meta.etag, await self._writer(bucket, meta.key, "status")

    async def _status(self, bucket: str, key: str, run_id: str, row: RunRow | None) -> None:
        """Its run has ended, or nobody here knows of it: then its own last word tells."""
        path = key.removesuffix(".status.json")
        if row is None and run_id not in [await self._writer(bucket, f"{path}.{kind}.json", kind) for kind in _FINAL]:
            return
        if await self._removed(bucket, key, "status", run_id):
            log.info("status_swept", bucket=bucket, key=key, run_id=run_id)
        self._writers.pop((bucket, key), None)

    async def _finals(self, bucket: str, path: str) -> None:
        """Of two runs the older one's last word goes: it came late."""
        writers: list[tuple[Sidecar, str]] = [
            (kind, await self._writer(bucket, f"{path}.{kind}.json", kind)) for kind in _FINAL
        ]
        rows = await self._runs.rows([run_id for _, run_id in writers if run_id])
        known: list[tuple[float, Sidecar, str]] = [
            (rows[run_id].accepted, kind, run_id) for kind, run_id in writers if run_id in rows
        ]
        if len(known) < len(_FINAL) or known[0][0] == known[1][0]:
            return
        _, kind, run_id = min(known)
        if await self._removed(bucket, f"{path}.{kind}.json", kind, run_id):
            log.info("late_sidecar_swept", bucket=bucket, key=f"{path}.{kind}.json", run_id=run_id)

    async def _removed(self, bucket: str, key: str, kind: Sidecar, run_id: str) -> bool:
        """Whether it was still that run's: a newer one may have written there since."""
        if await self._writer(bucket, key, kind) != run_id:
            return False
        await self._store.delete(bucket, key)
        return True

    async def _writer(self, bucket: str, key: str, kind: Sidecar) -> str:
        try:
            body = await self._store.read(bucket, key, max_bytes=MAX_BYTES[kind])
        except InputTooLarge:
            return ""
        return await asyncio.to_thread(writer_of, body) if body else ""
