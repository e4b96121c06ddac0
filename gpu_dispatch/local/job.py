"""A job of the local backend, its final status, and the queue of jobs that wait for a slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from gpu_dispatch.backend import Health, JobRef, JobStatus
from gpu_dispatch.fair_queue import FairQueue
from gpu_dispatch.task import GpuResult, GpuTask, Progress, State
from manifests.errors import (
    ErrorInfo,
    GpuDropError,
    ResourceExhausted,
    RunCancelled,
    TaskTimedOut,
    WorkerCrashed,
    WorkerError,
)
from manifests.text import plain_text

Stop = Literal["cancelled", "timed_out"]
"""Why the backend ended a job itself."""


class LocalJob:
    """One job; it belongs to one event loop. A final status never changes."""

    def __init__(self, ref: JobRef, task: GpuTask, submitted: float) -> None:
        self.ref = ref
        self.task = task
        self.submitted = submitted
        self.taken = False
        """Whether a slot has it."""
        self.stop: Stop | None = None
        self.excess: ResourceExhausted | None = None
        """Its error when it was ended because it exceeded its limits."""
        self.status = JobStatus("queued")
        self._changed = asyncio.Event()

    def update(self, status: JobStatus) -> None:
        if self.status.final or status == self.status:
            return
        self.status = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def move(self, progress: Progress) -> None:
        """Records `progress` unless it is less than the last one."""
        known = self.status.progress
        if known is None or progress.percent >= known.percent:
            self.update(replace(self.status, progress=progress))

    async def change(self, within_s: float) -> None:
        """Returns at the next change of the status, or after `within_s` seconds."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def finished(self) -> None:
        while not self.status.final:
            await self._changed.wait()


def finished_status(status: JobStatus, result: GpuResult, delay_ms: int) -> JobStatus:
    """Returns the final status of a job whose worker answered."""
    return JobStatus(_state_of(result.error), status.progress, replace(result, delay_ms=delay_ms))


def ended_status(job: LocalJob, error: GpuDropError, delay_ms: int = 0) -> JobStatus:
    """Returns the final status of a job that ended with `error` and without an answer."""
    result = GpuResult(job.task.task_id, error=error.info, delay_ms=delay_ms)
    return JobStatus(_state_of(error.info), job.status.progress, result)


def silence_error(job: LocalJob, last_words: str) -> GpuDropError:
    """Returns the error of a job whose worker ended without an answer."""
    if job.stop == "cancelled":
        return cancelled_error()
    if job.excess:
        return job.excess
    if job.stop == "timed_out":
        return TaskTimedOut(
            f"The task was not finished after {job.task.timeout_s:g} s, and its worker had to be ended.",
            hint="Use a shorter input or a smaller model, or raise `task_timeout` in config.yaml.",
        )
    return WorkerCrashed(
        "The worker on this machine ended in the middle of the task.",
        hint=f"Its last words: {plain_text(last_words[-500:])}" if last_words else "It may have run out of memory.",
    )


def defect_error(e: Exception) -> WorkerError:
    """Returns the error of a job that a defect of this backend ended."""
    return WorkerError(
        f"The worker on this machine failed unexpectedly ({type(e).__name__}).",
        hint="This is a defect: the listener's log holds its traceback.",
    )


def health_of(name: str, jobs: Sequence[LocalJob], slots: int, problem: str | None) -> Health:
    """Returns the health of a capability's slots. `problem`: why their children do not start."""
    running = sum(job.status.state == "running" for job in jobs)
    queued = sum(job.status.state == "queued" for job in jobs)
    detail = f"{slots} slot{'s' if slots != 1 else ''}, {running} running, {queued} queued"
    if problem:
        return Health(name, False, f"{detail}. {problem}", "Mend the installation; see the log.")
    return Health(name, True, detail)


def cancelled_error() -> RunCancelled:
    return RunCancelled("The job was cancelled.")


def _state_of(error: ErrorInfo | None) -> State:
    if error is None:
        return "completed"
    if error.code == RunCancelled.code:
        return "cancelled"
    return "timed_out" if error.code == TaskTimedOut.code else "failed"


class JobQueue:
    """Waiting jobs of one event loop. Folders take turns, so that no user waits for all drops of another."""

    def __init__(self) -> None:
        self._all: FairQueue[LocalJob] = FairQueue()
        self._short: FairQueue[LocalJob] = FairQueue()
        self._come = asyncio.Event()

    def put(self, job: LocalJob, *, short: bool) -> None:
        """Adds `job`; a `short` one also for the express slot."""
        path = tuple(job.task.share.split("/"))
        job.taken = False
        self._all.push(path, job)
        if short:
            self._short.push(path, job)
        come, self._come = self._come, asyncio.Event()
        come.set()

    async def take(self) -> LocalJob:
        """Waits for the next job and takes it."""
        while (job := self._pop(self._all)) is None:
            await self._come.wait()
        job.taken = True
        return job

    async def take_short(self, waited_s: float) -> LocalJob:
        """Waits for a short job that no slot has taken within `waited_s` seconds of its submission, and takes it."""
        while True:
            while (job := self._pop(self._short)) is None:
                await self._come.wait()
            await asyncio.sleep(job.submitted + waited_s - time.monotonic())
            if not job.taken and not job.status.final:
                job.taken = True
                return job

    def _pop(self, queue: FairQueue[LocalJob]) -> LocalJob | None:
        """Returns the next job that no slot has and that has not ended; None where there is none."""
        while queue:
            job = queue.pop()
            if not job.taken and not job.status.final:
                return job
        return None
