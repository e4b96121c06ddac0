"""The outcome of a job: its result, checked against the task, or an error where worker and endpoint give none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.compression import packed
from gpu_dispatch.task import GpuResult, Payload, TranscribeParams, Videos
from gpu_dispatch.validation import validated_result
from gpu_dispatch.wire import result_from_json
from handlers.base import PlannedTask
from listener.processes.pool import WORTH_A_PROCESS, ProcessPool
from manifests.errors import ErrorInfo, GpuDropError, JobLost, QueuedTooLong, RunCancelled, TaskTimedOut, WorkerError


def fitting(result: GpuResult | None, task: PlannedTask) -> GpuResult | None:
    """Returns `result`; if its payload is none of `task`, with a WorkerError instead."""
    if result is None or result.payload is None or _fits(result.payload, task):
        return result
    error = WorkerError(
        "The worker's answer is not one to this task.", hint="Run listener and workers of the same version."
    )
    return replace(result, payload=None, error=error.info)


def _fits(payload: Payload, task: PlannedTask) -> bool:
    """Whether the payload belongs to `task`: files are planned ones, each once and not empty."""
    if isinstance(task.params, TranscribeParams):
        return not isinstance(payload, Videos)
    if not isinstance(payload, Videos):
        return False
    names = [file.name for file in payload.files]
    planned = {target.name for target in task.outputs}
    return len(set(names)) == len(names) and planned.issuperset(names) and all(f.size > 0 for f in payload.files)


async def read_result(data: bytes, pool: ProcessPool) -> GpuResult | None:
    """Parses a result; None: it is none. Raises WorkerCrashed when a large one cannot be read on this machine."""
    if len(data) < WORTH_A_PROCESS:
        return await asyncio.to_thread(result_of, data)
    return await pool.run(result_of, data)


def result_of(data: bytes) -> GpuResult | None:
    """Parses a result and compresses a large transcript; None: it is none."""
    try:
        result = result_from_json(data)
    except ValidationError:
        return None
    return packed(validated_result(result)) if result else None


def status_of(answer: GpuResult) -> JobStatus:
    """Returns the status of a job that left `answer`."""
    return JobStatus("completed" if answer.payload else "failed", result=answer)


def no_result(status: JobStatus, endpoint: str, *, durable: bool) -> ErrorInfo:
    """Returns the error of a job of which nothing came, not even an error."""
    if status.state == "lost":
        where = endpoint if durable else "The process that ran it"
        return JobLost(
            f"{where} knows nothing of the job any more, and it left no answer.", hint="It is started again by itself."
        ).info
    # An endpoint that says "completed" has lost the result: another try may succeed.
    return WorkerError(
        f"The job is {status.state} but brought no result.",
        hint="See the worker's log.",
        retryable=status.state == "completed",
    ).info


def cancelled_there(error: ErrorInfo, endpoint: str) -> ErrorInfo:
    """Returns `error`, or JobLost if somebody cancelled the job at its endpoint: a run's own end is handled before
    this."""
    if error.code != RunCancelled.code:
        return error
    return JobLost(f"Somebody took the job off {endpoint}.", hint="It is started again by itself; cancel the run.").info


def still_running(error: GpuDropError, jobs: Sequence[JobRef]) -> GpuDropError:
    """Returns `error` with a hint that some jobs may go on and be paid for."""
    named = ", ".join(f"{job.job_id} at {job.backend}" for job in jobs)
    told = f"The provider did not take the cancel of {named}: look in its console whether it goes on."
    return GpuDropError.from_info(replace(error.info, hint=f"{error.info.hint} {told}".strip()))


def vanished() -> JobLost:
    return JobLost("The job that held the claim left no answer.", hint="It is started again by itself.")


def not_taken(endpoint: str, after_s: float) -> QueuedTooLong:
    return QueuedTooLong(
        f"No worker of {endpoint} took the job in {after_s:.0f} s.", hint="It goes to another endpoint by itself."
    )


def not_finished(after_s: float) -> TaskTimedOut:
    return TaskTimedOut(
        f"The job was not finished after {after_s:.0f} s and was cancelled.",
        hint="Use a shorter input, a smaller model or a faster GPU, or raise task_timeout in config.yaml.",
    )
