"""Finds objects that are gone without an event, and removes sidecars that no run stands behind.

Every listing looks for the keys of unfinished runs, because deleting a drop cancels its run, and for the next page of
all keys ever taken in, so that the ledger does not keep rows of deleted objects for ever. No order of keys is assumed,
and memory does not grow with the bucket.

The store may carry out a write long after its listener gave it up or was killed. Then a status sidecar lies beside its
run's final sidecar, or the final sidecar of a replaced run beside the newer run's. Only status sidecars cost requests,
one per version while the run goes on, and drops with a done and an error sidecar.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from listener.ledger.run_rows import RunRow
from listener.stores.base import ObjectMeta, Store
from manifests.errors import GpuDropError, InputTooLarge
from manifests.final_sidecars import run_id_of
from manifests.names import Sidecar, sidecar_parts
from manifests.sidecars import MAX_BYTES
from manifests.task_groups import gather_all

PAGE = 2000
"""Keys ever taken in that one listing looks for."""


class ExpectedObjects(Protocol):
    """The ledger's keys that should exist. Both methods raise StoreUnavailable when they cannot be read now."""

    async def unfinished(self, bucket: str) -> Sequence[str]:
        """Returns keys of runs that have not ended, not necessarily all."""
        ...

    async def taken_in(self, bucket: str, *, after: str, limit: int) -> Sequence[str]:
        """Returns keys behind `after`, in a constant order; fewer than `limit` are the last."""
        ...


class MissingObjects:
    """Finds expected keys that a listing does not show; one listing per bucket at a time.

    A key that it reports as gone may still exist; intake decides with a HEAD.
    """

    def __init__(self, expected: ExpectedObjects) -> None:
        self._expected = expected
        self._after: dict[str, str] = {}
        self._looked_for: dict[str, set[str]] = {}
        self._met: set[str] = set()

    async def begin(self, bucket: str) -> None:
        page = await self._expected.taken_in(bucket, after=self._after.get(bucket, ""), limit=PAGE)
        self._after[bucket] = page[-1] if len(page) == PAGE else ""
        self._looked_for[bucket] = {*page, *await self._expected.unfinished(bucket)}
        self._met.discard(bucket)

    def mark_seen(self, bucket: str, key: str) -> None:
        self._looked_for[bucket].discard(key)
        self._met.add(bucket)

    def gone(self, bucket: str, prefixes: Sequence[str]) -> list[str]:
        """Returns the expected keys below `prefixes` that the listing did not show; none when it showed no object.

        A folder whose disk is not mounted looks empty, and must end no runs.
        """
        left = self._looked_for.pop(bucket, set())
        return sorted(key for key in left if key.startswith(tuple(prefixes))) if bucket in self._met else []


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.reconcile")

BATCH = 500
AT_ONCE = 16
MAX_REMEMBERED = 10_000
_LATELY = 2000
"""Final sidecars remembered to find both of one drop; a listing shows them close to each other."""
_FINAL: tuple[Sidecar, ...] = ("done", "error")


class KnownRuns(Protocol):
    """The ledger's runs."""

    async def rows(self, run_ids: Sequence[str]) -> Mapping[str, RunRow]:
        """Returns the recorded runs among them, by id. Raises StoreUnavailable."""
        ...


@dataclass(slots=True)
class _Met:
    """Sidecars that a listing showed and that are not examined yet."""

    statuses: list[ObjectMeta] = field(default_factory=list[ObjectMeta])
    both: set[str] = field(default_factory=set[str])
    """Paths of drops with a done and an error sidecar."""
    finals: dict[str, None] = field(default_factory=dict[str, None])
    """Paths of drops with one of them, the latest `_LATELY`."""


class StaleSidecars:
    """Removes status sidecars of ended runs and final sidecars of replaced runs."""

    def __init__(self, store: Store, runs: KnownRuns) -> None:
        self._store = store
        self._runs = runs
        self._met: dict[str, _Met] = {}
        self._writers: dict[tuple[str, str], tuple[str, str]] = {}
        """ETag and run id of a status sidecar, by bucket and key."""

    async def mark_seen(self, bucket: str, meta: ObjectMeta) -> None:
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
        """Sweeps the rest when the listing has ended."""
        if met := self._met.pop(bucket, None):
            await self._sweep(bucket, met)

    async def _sweep(self, bucket: str, met: _Met) -> None:
        """Sweeps what was met; the next listing meets again what cannot be read or removed now."""
        statuses, both = met.statuses, met.both
        met.statuses, met.both = [], set()
        gate = asyncio.Semaphore(AT_ONCE)

        async def quietly(key: str, work: Callable[[], Awaitable[None]]) -> None:
            async with gate:
                try:
                    await work()
                except GpuDropError as e:
                    log.info("sidecar_not_swept", bucket=bucket, key=key, code=e.info.code, error=str(e))

        await gather_all(quietly(meta.key, partial(self._learn, bucket, meta)) for meta in statuses)
        try:
            writers = {meta.key: self._writers.get((bucket, meta.key), ("", ""))[1] for meta in statuses}
            rows = await self._runs.rows([run_id for run_id in writers.values() if run_id])
        except GpuDropError as e:
            log.info("sidecars_not_swept", bucket=bucket, code=e.info.code, error=str(e))
            return
        closed = [key for key, run_id in writers.items() if run_id and not (run_id in rows and not rows[run_id].ended)]
        works = [(key, partial(self._status, bucket, key, writers[key], rows.get(writers[key]))) for key in closed]
        works += [(path, partial(self._finals, bucket, path)) for path in both]
        await gather_all(quietly(key, work) for key, work in works)

    async def _learn(self, bucket: str, meta: ObjectMeta) -> None:
        at = (bucket, meta.key)
        if self._writers.get(at, ("", ""))[0] == meta.etag:
            return
        self._writers.pop(at, None)
        if len(self._writers) >= MAX_REMEMBERED:
            self._writers.clear()
        self._writers[at] = meta.etag, await self._writer(bucket, meta.key, "status")

    async def _status(self, bucket: str, key: str, run_id: str, row: RunRow | None) -> None:
        """Removes an ended run's status sidecar. Without a row, the run's final sidecar shows that it ended."""
        path = key.removesuffix(".status.json")
        if row is None and run_id not in [await self._writer(bucket, f"{path}.{kind}.json", kind) for kind in _FINAL]:
            return
        if await self._removed(bucket, key, "status", run_id):
            log.info("status_swept", bucket=bucket, key=key, run_id=run_id)
        self._writers.pop((bucket, key), None)

    async def _finals(self, bucket: str, path: str) -> None:
        """Removes the final sidecar of the older of two runs, which was written late."""
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
        """Deletes the sidecar if it is still that run's; returns whether."""
        if await self._writer(bucket, key, kind) != run_id:
            return False
        await self._store.delete(bucket, key)
        return True

    async def _writer(self, bucket: str, key: str, kind: Sidecar) -> str:
        try:
            body = await self._store.read(bucket, key, max_bytes=MAX_BYTES[kind])
        except InputTooLarge:
            return ""
        return await asyncio.to_thread(run_id_of, body) if body else ""
