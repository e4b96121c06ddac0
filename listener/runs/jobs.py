"""One GPU job of a run: submitted, watched, tried again, with every attempt on record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.task import GpuResult, GpuTask, TaskInput, TaskOutput
from gpu_dispatch.waiting import Backoff
from gpu_dispatch.watch import wait_until_final
from handlers.base import PlannedTask
from listener.runs.engine import Steps
from listener.runs.signals import Ends
from listener.store import Store
from manifests.errors import ErrorInfo, GpuDropError, JobLost, RunCancelled, RunSuperseded, WorkerError
from manifests.media import MediaRef, ObjectRef

MAX_LOSSES = 10
"""Jobs that vanish with the process that ran them are tried again without counting as attempts, this often."""

BACKOFF = Backoff(base_s=2.0, cap_s=120.0)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the engine gives to a job's story. `index` of `count` jobs of the run."""

    run_id: str
    bucket: str
    index: int
    count: int
    task: PlannedTask
    max_attempts: int

    @property
    def task_id(self) -> str:
        return f"{self.run_id}-j{self.index}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a task. `error` is None when it succeeded. Times are epoch seconds."""

    task_id: str
    number: int
    job: JobRef | None
    error: ErrorInfo | None
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class _Submitted:
    job: JobRef | None
    error: ErrorInfo | None
    at: float


@dataclass(frozen=True, slots=True)
class _Waited:
    result: GpuResult | None
    error: ErrorInfo | None
    at: float


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What came of a job in the end: a result with a payload, or the last attempt's error."""

    result: GpuResult | None
    attempts: tuple[Attempt, ...]

    @property
    def error(self) -> ErrorInfo | None:
        return self.attempts[-1].error if self.result is None else None


@dataclass(frozen=True, slots=True)
class JobSettings:
    """`timeout_s` for the worker; `link_s`: how long its presigned links work, and so how long a job is waited for."""

    timeout_s: float
    link_s: int
    private_hosts: tuple[str, ...] = ()
    """Hosts beside the store's own that workers may reach although they are private."""


class JobRunner:
    def __init__(
        self,
        store: Store,
        backends: Mapping[str, GpuBackend],
        ends: Ends,
        settings: JobSettings,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        progress: Callable[[JobRequest, int, JobRef, JobStatus], None],
    ) -> None:
        """`backends` by capability. `progress` hears of every change: request, attempt, job, status.

        `clock` gives epoch seconds.
        """
        self._store = store
        self._backends = backends
        self._ends = ends
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._progress = progress

    async def run(self, request: JobRequest, steps: Steps) -> JobOutcome:
        """Never raises for the job's own failure: the outcome tells."""
        attempts: list[Attempt] = []
        losses = 0
        while True:
            number = len(attempts) + 1
            attempt, result = await self._attempt(request, number, steps)
            attempts.append(attempt)
            if attempt.error is None:
                return JobOutcome(result, tuple(attempts))
            losses += attempt.error.code == JobLost.code
            counted = number - min(losses, MAX_LOSSES)
            if not attempt.error.retryable or counted >= request.max_attempts:
                return JobOutcome(None, tuple(attempts))
            await steps.pause(backoff(request.task_id, number))

    async def _attempt(self, request: JobRequest, number: int, steps: Steps) -> tuple[Attempt, GpuResult | None]:
        submitted = await steps.once(f"submit {number}", _Submitted, lambda: self._submitted(request))
        if submitted.job is None:
            return self._attempted(request, number, submitted, submitted.error, submitted.at), None
        job = submitted.job
        waited = await steps.once(f"wait {number}", _Waited, lambda: self._waited(request, number, job))
        error = waited.error or (waited.result.error if waited.result else None)
        return self._attempted(request, number, submitted, error, waited.at), waited.result if error is None else None

    def _attempted(
        self, request: JobRequest, number: int, submitted: _Submitted, error: ErrorInfo | None, ended: float
    ) -> Attempt:
        return Attempt(request.task_id, number, submitted.job, error, submitted.at, ended)

    async def _submitted(self, request: JobRequest) -> _Submitted:
        at = self._clock()
        try:
            return _Submitted(await self._submit(request), None, at)
        except GpuDropError as e:
            return _Submitted(None, e.info, at)

    async def _waited(self, request: JobRequest, number: int, job: JobRef) -> _Waited:
        try:
            result = await self._wait(request, number, job)
        except GpuDropError as e:
            return _Waited(None, e.info, self._clock())
        return _Waited(result, None, self._clock())

    async def _submit(self, request: JobRequest) -> JobRef:
        self._raise_if_ended(request.run_id)
        return await self._backend(request).submit(await self._task(request))

    async def _wait(self, request: JobRequest, number: int, job: JobRef) -> GpuResult:
        backend = self._backend(request)
        watching = asyncio.create_task(
            wait_until_final(
                backend,
                job,
                deadline_s=self._settings.link_s,
                on_status=lambda status: self._progress(request, number, job, status),
                rng=self._rng,
            )
        )
        ended = asyncio.create_task(self._ends.wait(request.run_id))
        try:
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                await backend.cancel(job)
                self._raise_if_ended(request.run_id)
            status = await watching
        finally:
            ended.cancel()
            watching.cancel()
        if status.state == "lost":
            raise JobLost("The job ended with the process that ran it.", hint="It is started again by itself.")
        return status.result or _without_result(request, status)

    async def _task(self, request: JobRequest) -> GpuTask:
        """The planned task with fresh addresses: they are secrets of a limited life, so never recorded."""
        planned = request.task
        return GpuTask(
            task_id=request.task_id,
            params=planned.params,
            inputs=tuple([TaskInput(f.name, await self._address(f.media)) for f in planned.inputs]),
            outputs=tuple(
                [TaskOutput(t.name, await self._target(request, t.key, t.content_type), t.content_type)
                 for t in planned.outputs]
            ),
            timeout_s=self._settings.timeout_s,
            trusted_hosts=(*self._store.trusted_hosts, *self._settings.private_hosts),
        )  # fmt: skip

    async def _address(self, media: MediaRef) -> str:
        if isinstance(media, ObjectRef):
            return await self._store.sign("GET", media.bucket, media.key, expires_s=self._settings.link_s)
        return media.url

    async def _target(self, request: JobRequest, key: str, content_type: str) -> str:
        return await self._store.sign(
            "PUT", request.bucket, key, expires_s=self._settings.link_s, content_type=content_type
        )

    def _backend(self, request: JobRequest) -> GpuBackend:
        return self._backends[request.task.params.capability]

    def _raise_if_ended(self, run_id: str) -> None:
        raise_if_ended(self._ends, run_id)


def raise_if_ended(ends: Ends, run_id: str) -> None:
    """Raises RunCancelled or RunSuperseded when the run is to end."""
    match ends.reason(run_id):
        case None:
            return
        case "superseded":
            raise RunSuperseded("A newer version of the same drop took over.", hint="See the newer run.")
        case _:
            raise RunCancelled("The run was cancelled.", hint="Drop the file again to start it anew.")


def backoff(task_id: str, attempt: int) -> float:
    """Full jitter, drawn from the task's own name: the same after a crash, different between jobs."""
    return BACKOFF.delay(attempt, random.Random(f"{task_id} {attempt}"))  # noqa: S311 - jitter


def _without_result(request: JobRequest, status: JobStatus) -> GpuResult:
    error = WorkerError(f"The job is {status.state} but brought no result.", hint="See the worker's log.")
    return GpuResult(task_id=request.task_id, error=error.info)
