"""Ends runs: writes outputs, then the final sidecar, and leaves nothing else of the run but what users want."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult, Videos
from handlers.base import Link, Plan, Value
from listener.ledger.objects import ObjectLedger, fingerprint
from listener.ledger.run_rows import RunState, state_after
from listener.ledger.runs import RunLedger
from listener.run_request import RunRequest
from listener.runs.adoption import UNSEALED, SidecarSignature
from listener.runs.dead_letters import dead_letter
from listener.runs.fence import Fence
from listener.runs.jobs import AttemptRecord
from listener.runs.manifests import ResolvedManifest
from listener.runs.outputs import MadeOutput, MadeOutputs
from listener.runs.status import StatusPublisher
from listener.stores.base import ObjectMeta, Store
from manifests.documents import CONTENT_TYPE, JobNote, dead_letter_bytes
from manifests.errors import (
    ErrorInfo,
    GpuDropError,
    OutputMissing,
    OutputReplaced,
    RunSuperseded,
)
from manifests.names import Sidecar, dlq_key
from manifests.sidecars import DoneSidecar, ErrorSidecar, OutputNote, done_bytes, failed_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_SKEW_S = 5.0
"""Seconds that the store's clock may lie behind ours."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run leaves, once all of it is in the store."""

    message: str
    files: tuple[WrittenFile, ...]
    response: dict[str, Any]
    """JSON data, links resolved."""
    stats: dict[str, Any]
    """JSON data, links resolved."""
    jobs: tuple[JobNote, ...] = ()


class RunFinalizer:
    """Writes the outputs, the final sidecar and the dead letter of a run, and records its end."""

    def __init__(
        self,
        store: Store,
        objects: ObjectLedger,
        runs: RunLedger,
        publisher: StatusPublisher,
        fence: Fence,
        *,
        clock: Callable[[], float],
        link_s: int,
        spent: Callable[[str], Awaitable[float | None]],
        signature: SidecarSignature = UNSEALED,
    ) -> None:
        """`link_s`: seconds that links in done sidecars work. `spent`: a run's US dollars; None: it has no price.
        `seal` signs final sidecars."""
        self._store = store
        self._objects = objects
        self._runs = runs
        self._publisher = publisher
        self._fence = fence
        self._clock = clock
        self._link_s = link_s
        self._spent = spent
        self._signature = signature

    async def write(
        self, run: RunRequest, plan: Plan, results: Sequence[GpuResult], outputs: MadeOutputs, jobs: Sequence[JobRef]
    ) -> RunSummary:
        """Writes the run's own outputs and checks those of its workers. `jobs` did the work. Raises OutputMissing and
        OutputReplaced."""
        metas: list[ObjectMeta] = []
        try:
            for key, size in _left(plan, results).items():
                meta = await self._present(run.bucket, key, size)
                metas.append(meta)
            for output in outputs.files:
                meta = await self._written(run, output)
                metas.append(meta)
        finally:
            # Also after an interruption: a superseded run removes what it has written.
            await self._objects.record_written(run.bucket, metas, run.run_id)
        times = {
            "jobId": jobs[0].job_id if jobs else results[0].task_id,
            "delayTime": max(r.delay_ms for r in results),
            "executionTime": sum(r.execution_ms for r in results),
        }
        return RunSummary(
            message=outputs.message,
            files=tuple(WrittenFile(m.key, m.size) for m in metas),
            response=self._resolved(run.bucket, outputs.response),
            stats={**times, **self._resolved(run.bucket, outputs.stats)},
            jobs=tuple(JobNote(job.job_id, job.backend) for job in jobs),
        )

    async def done(self, run: RunRequest, manifest: ResolvedManifest, summary: RunSummary) -> bytes:
        """Writes the done sidecar and returns its bytes. Raises RunSuperseded."""
        now = _when(self._clock())
        notes = [
            OutputNote(
                f.key, f.size, await self._store.sign("GET", run.bucket, f.key, expires_s=self._link_s)
            )
            for f in summary.files
        ]  # fmt: skip
        document = DoneSidecar(
            run_id=run.run_id,
            key=run.key,
            operation=manifest.operation,
            message=summary.message,
            started=_when(run.received),
            ended=now,
            response=summary.response,
            stats=summary.stats,
            outputs=notes,
            jobs=summary.jobs,
            links_expire=now + timedelta(seconds=self._link_s) if self._store.links_expire else None,
            cost_usd=await self._spent(run.run_id),
            metadata=manifest.metadata,
            version=run.version,
        )
        body = await asyncio.to_thread(lambda: self._signature.sign(done_bytes(document)))
        await self._close(run, "done", body, "done")
        log.info("run_done", run_id=run.run_id, key=run.key, files=len(summary.files))
        return body

    async def failed(
        self, run: RunRequest, manifest: ResolvedManifest | None, error: ErrorInfo, attempts: Sequence[AttemptRecord]
    ) -> bytes | None:
        """Writes the error sidecar and returns its bytes; before it a dead letter, where the run failed for good.

        None: the run leaves no error sidecar, since a newer one replaces it, or its end is on record with a sidecar of
        its own.
        """
        state = state_after(error.code)
        row = await self._runs.find(run.run_id)
        if row is not None and row.ended:
            return None
        if state == "superseded" or (row is not None and row.cancel == "superseded"):
            await self._give_way(run)
            return None
        await self._release_claims(run)
        now = _when(self._clock())
        letter = None
        if state == "failed":
            letter = dlq_key(run.run_id, now)
            data = dead_letter_bytes(dead_letter(run, manifest, error, attempts, now))
            await self._store.put(run.bucket, letter, data, content_type=CONTENT_TYPE, run_id=run.run_id)
        document = ErrorSidecar(
            run_id=run.run_id,
            key=run.key,
            error=error,
            started=_when(run.received),
            ended=now,
            operation=manifest.operation if manifest else None,
            attempts=max([a.number for a in attempts], default=1),
            dead_letter=letter,
            cost_usd=await self._spent(run.run_id),
            metadata=manifest.metadata if manifest else {},
            version=run.version,
        )
        body = await asyncio.to_thread(lambda: self._signature.sign(failed_bytes(document)))
        try:
            await self._close(run, "error", body, state, error.code)
        except RunSuperseded:
            if letter:
                await self._store.delete(run.bucket, letter)
            await self._give_way(run)
            return None
        log.warning(
            "run_ended",
            run_id=run.run_id,
            key=run.key,
            state=state,
            code=error.code,
            error=error.message,
            hint=error.hint,
        )
        return body

    async def give_up(self, run: RunRequest, error: ErrorInfo) -> None:
        """Records the end of a run whose final sidecar could not be written: `gpudrop status` still shows it."""
        await self._publisher.close(run.run_id)
        try:
            await self._fence.remove_own(run, "status")
        except GpuDropError as e:
            log.info("status_left", run_id=run.run_id, code=e.info.code, error=str(e))
        await self._runs.update(run.run_id, state="failed", at=self._clock(), error_code=error.code)

    async def _close(self, run: RunRequest, kind: Sidecar, data: bytes, state: RunState, error_code: str = "") -> None:
        """Writes the final sidecar, the last thing a run writes, after removing sidecars that it makes untrue. Raises
        RunSuperseded."""
        await self._publisher.close(run.run_id)
        await self._fence.check(run)
        await self._fence.remove(run, "error" if kind == "done" else "done")
        await self._store.delete(run.bucket, run.sidecar("status"))
        await self._fence.write(run, run.sidecar(kind), data, content_type=CONTENT_TYPE)
        # A newer run that replaced this one meanwhile waits for its end, and must find nothing of it.
        await self._fence.check(run)
        await self._runs.update(run.run_id, state=state, at=self._clock(), error_code=error_code)

    async def _give_way(self, run: RunRequest) -> None:
        """Ends a run that a newer one replaces: removes all that it wrote, and nothing of the newer one's."""
        await self._publisher.close(run.run_id)
        for kind in ("status", "done", "error"):
            await self._fence.remove_own(run, kind)
        for key, print_ in await self._objects.written_by(run.bucket, run.run_id):
            now = await self._fence.head(run, key)
            if now is not None and (fingerprint(now) == print_ or now.run_id == run.run_id):
                await self._store.delete(run.bucket, key)
        await self._release_claims(run)
        await self._runs.update(run.run_id, state="superseded", at=self._clock(), error_code=RunSuperseded.code)
        log.info("run_gave_way", run_id=run.run_id, key=run.key)

    async def _written(self, run: RunRequest, output: MadeOutput) -> ObjectMeta:
        data = await output.read()
        etag = await self._fence.write(run, output.key, data, content_type=output.content_type)
        now = await self._store.head(run.bucket, output.key)
        if now is not None and now.etag == etag:
            return now
        # Overwritten or removed meanwhile: what is there now is not the run's.
        return ObjectMeta(output.key, len(data), etag, _when(0.0), run_id=run.run_id)

    async def _present(self, bucket: str, key: str, size: int | None) -> ObjectMeta:
        meta = await self._store.head(bucket, key)
        if meta is None or meta.size == 0:
            raise OutputMissing(
                f"The worker says it is done, but {key!r} is not there.",
                hint="Something removed it, or the worker could not upload it: see its log, then redrive.",
            )
        if size is not None and meta.size != size:
            raise OutputReplaced(
                f"The worker left {size:,} bytes under {key!r}; {meta.size:,} are there, so somebody else wrote since.",
                hint="If it was an older run of the drop that ended late, `gpudrop redrive` does the work again.",
                where=key,
            )
        return meta

    async def _release_claims(self, run: RunRequest) -> None:
        """Gives up the run's claim on keys that it never wrote: what is written there later is a user's."""
        keys = await self._objects.claimed(run.bucket, run.run_id)
        metas = [await self._fence.head(run, key) for key in keys]
        mine = [m for m in metas if m and m.last_modified.timestamp() >= run.received - _SKEW_S]
        await self._objects.record_written(run.bucket, mine, run.run_id)
        await self._objects.release_claims(run.bucket, run.run_id)

    def _resolved(self, bucket: str, fields: Mapping[str, Value]) -> dict[str, Any]:
        return {name: self._json(bucket, value) for name, value in fields.items()}

    def _json(self, bucket: str, value: Value) -> Any:
        match value:
            case Link(key):
                return self._store.public_url(bucket, key)
            case Mapping():
                return self._resolved(bucket, value)
            case tuple():
                return [self._json(bucket, item) for item in value]
            case _:
                return value


def _left(plan: Plan, results: Sequence[GpuResult]) -> dict[str, int | None]:
    """Returns the sizes of what the workers left, by key; None where a worker reported none."""
    left: dict[str, int | None] = {}
    for task, result in zip(plan.tasks, results, strict=True):
        files = result.payload.files if isinstance(result.payload, Videos) else ()
        sizes = {file.name: file.size for file in files}
        left.update((target.key, sizes.get(target.name)) for target in task.outputs)
    return left


def _when(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
