"""How a run ends: outputs first, the final sidecar after them, then nothing of the run's but what users want."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult
from handlers.base import Finished, Link, OutputFile, Plan, Value
from listener.ledger.objects import ObjectLedger
from listener.ledger.runs import RunLedger, RunState
from listener.runs.board import Board
from listener.runs.callbacks import Callbacks
from listener.runs.jobs import Attempt
from listener.runs.letters import dead_letter
from listener.runs.reading import Asked
from listener.runs.request import RunRequest
from listener.store import ObjectMeta, Store
from manifests.dead_letters import dead_letter_bytes
from manifests.documents import CONTENT_TYPE, JobNote
from manifests.errors import ErrorInfo, OutputMissing, RunCancelled, RunSuperseded
from manifests.names import Sidecar, dlq_key, sidecar_key
from manifests.sidecars import Done, Failed, OutputNote, done_bytes, failed_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.runs")

_CALLBACK_BYTES = 32 * 2**20
_SKEW_S = 5.0
"""How far the store's clock may lie behind ours."""

_ENDINGS: Mapping[str, RunState] = {RunCancelled.code: "cancelled", RunSuperseded.code: "superseded"}


@dataclass(frozen=True, slots=True)
class WrittenFile:
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run leaves, once all of it lies in the store. `response` and `stats` are JSON data, links resolved."""

    message: str
    files: tuple[WrittenFile, ...]
    response: dict[str, Any]
    stats: dict[str, Any]
    jobs: tuple[JobNote, ...] = ()


@dataclass(frozen=True, slots=True)
class _About:
    run_id: str


_ABOUT: TypeAdapter[_About] = TypeAdapter(_About)


class Closer:
    def __init__(
        self,
        store: Store,
        objects: ObjectLedger,
        runs: RunLedger,
        board: Board,
        callbacks: Callbacks,
        *,
        clock: Callable[[], float],
        link_s: int,
        spent: Callable[[str], Awaitable[float | None]],
    ) -> None:
        """`link_s`: how long the links in done sidecars work. `spent`: a run's US dollars; None: it has no price."""
        self._store = store
        self._objects = objects
        self._runs = runs
        self._board = board
        self._callbacks = callbacks
        self._clock = clock
        self._link_s = link_s
        self._spent = spent

    async def write(
        self, run: RunRequest, plan: Plan, results: Sequence[GpuResult], finished: Finished, jobs: Sequence[JobRef]
    ) -> Summary:
        """Writes the run's own outputs and makes sure of the workers'. `jobs` did the work. Raises OutputMissing."""
        await self._objects.will_write(run.bucket, [o.key for o in finished.outputs], run.run_id, run.lineage)
        targets = [target.key for task in plan.tasks for target in task.outputs]
        metas = [await self._present(run.bucket, key) for key in targets]
        metas += [await self._written(run, output) for output in finished.outputs]
        await self._objects.wrote(run.bucket, metas, run.run_id)
        times = {
            "jobId": jobs[0].job_id if jobs else results[0].task_id,
            "delayTime": max(r.delay_ms for r in results),
            "executionTime": sum(r.execution_ms for r in results),
        }
        return Summary(
            message=finished.message,
            files=tuple(WrittenFile(m.key, m.size) for m in metas),
            response=self._resolved(run.bucket, finished.response),
            stats={**times, **self._resolved(run.bucket, finished.stats)},
            jobs=tuple(JobNote(job.job_id, job.backend) for job in jobs),
        )

    async def done(self, run: RunRequest, asked: Asked, summary: Summary) -> None:
        now = _when(self._clock())
        notes = [
            OutputNote(
                f.key, f.size, await self._store.sign("GET", run.bucket, f.key, expires_s=self._link_s)
            )
            for f in summary.files
        ]  # fmt: skip
        document = Done(
            run_id=run.run_id,
            key=run.key,
            operation=asked.operation,
            message=summary.message,
            started=_when(run.received),
            ended=now,
            response=summary.response,
            stats=summary.stats,
            outputs=notes,
            jobs=summary.jobs,
            links_expire=now + timedelta(seconds=self._link_s) if self._store.links_expire else None,
            cost_usd=await self._spent(run.run_id),
            metadata=asked.metadata,
        )
        await self._close(run, "done", done_bytes(document), "done")
        log.info("run_done", run_id=run.run_id, key=run.key, files=len(summary.files))

    async def was_done(self, run: RunRequest) -> bool:
        """Whether `run` left its done sidecar in an earlier life, and died before that was recorded."""
        body = await self._store.read(run.bucket, sidecar_key(run.key, "done"), max_bytes=_CALLBACK_BYTES)
        if body is None or _told_by(body) != run.run_id:
            return False
        await self._board.close(run.run_id)
        await self._runs.update(run.run_id, state="done", at=self._clock())
        log.info("run_found_done", run_id=run.run_id, key=run.key)
        return True

    async def failed(self, run: RunRequest, asked: Asked | None, error: ErrorInfo, attempts: Sequence[Attempt]) -> None:
        """The error sidecar, after a dead letter where the run failed for good. A superseded run says nothing."""
        state = _ENDINGS.get(error.code, "failed")
        await self._settle(run)
        if state == "superseded":
            await self._board.close(run.run_id)
            await self._runs.update(run.run_id, state=state, at=self._clock(), error_code=error.code)
            return
        now = _when(self._clock())
        letter = None
        if state == "failed":
            letter = dlq_key(run.run_id, now)
            data = dead_letter_bytes(dead_letter(run, asked, error, attempts, now))
            await self._store.put(run.bucket, letter, data, content_type=CONTENT_TYPE, run_id=run.run_id)
        document = Failed(
            run_id=run.run_id,
            key=run.key,
            error=error,
            started=_when(run.received),
            ended=now,
            operation=asked.operation if asked else None,
            attempts=max([a.number for a in attempts], default=1),
            dead_letter=letter,
            cost_usd=await self._spent(run.run_id),
            metadata=asked.metadata if asked else {},
        )
        await self._close(run, "error", failed_bytes(document), state, error.code)
        log.warning(
            "run_ended",
            run_id=run.run_id,
            key=run.key,
            state=state,
            code=error.code,
            error=error.message,
            hint=error.hint,
        )

    async def give_up(self, run: RunRequest, error: ErrorInfo) -> None:
        """The run has ended, though its last word could not be written: `gpudrop status` still tells."""
        await self._board.close(run.run_id)
        await self._runs.update(run.run_id, state="failed", at=self._clock(), error_code=error.code)

    async def call_back(self, run: RunRequest, url: str) -> bool:
        """Posts the final sidecar to `url`; whether it was heard."""
        for kind in ("done", "error"):
            key = sidecar_key(run.key, kind)
            body = await self._store.read(run.bucket, key, max_bytes=_CALLBACK_BYTES)
            if body is not None:
                return await self._callbacks.deliver(url, body, run.run_id)
        return False

    async def _close(self, run: RunRequest, kind: Sidecar, data: bytes, state: RunState, error_code: str = "") -> None:
        """What it makes untrue goes first: the final sidecar is the last thing a run writes."""
        await self._board.close(run.run_id)
        other: Sidecar = "error" if kind == "done" else "done"
        await self._store.delete(run.bucket, sidecar_key(run.key, other))
        await self._store.delete(run.bucket, sidecar_key(run.key, "status"))
        await self._store.put(
            run.bucket, sidecar_key(run.key, kind), data, content_type=CONTENT_TYPE, run_id=run.run_id
        )
        await self._runs.update(run.run_id, state=state, at=self._clock(), error_code=error_code)

    async def _written(self, run: RunRequest, output: OutputFile) -> ObjectMeta:
        return await self._store.write(
            run.bucket, output.key, output.data, content_type=output.content_type, run_id=run.run_id
        )

    async def _present(self, bucket: str, key: str) -> ObjectMeta:
        meta = await self._store.head(bucket, key)
        if meta is None or meta.size == 0:
            raise OutputMissing(
                f"The worker says it is done, but {key!r} is not there.",
                hint="Something removed it, or the worker could not upload it: see its log, then redrive.",
            )
        return meta

    async def _settle(self, run: RunRequest) -> None:
        """Gives up the run's claim on keys it never wrote: whoever writes there next is a user."""
        keys = await self._objects.claimed(run.bucket, run.run_id)
        metas = [await self._store.head(run.bucket, key) for key in keys]
        mine = [m for m in metas if m and m.last_modified.timestamp() >= run.received - _SKEW_S]
        await self._objects.wrote(run.bucket, mine, run.run_id)
        await self._objects.disclaim(run.bucket, run.run_id)

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


def _told_by(body: bytes) -> str:
    """The run that left a sidecar; "" for what is none: a user may have written over it."""
    try:
        return _ABOUT.validate_json(body).run_id
    except ValidationError:
        return ""


def _when(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
