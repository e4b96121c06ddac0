"""Executes one job: claims it, downloads inputs to a private folder, runs the operation and uploads the outputs."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gpu_dispatch.task import (
    GpuResult,
    GpuTask,
    Payload,
    Progress,
    TaskInput,
    TaskOutput,
    TaskParams,
    Videos,
)
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.parts import gather_transfers
from gpu_dispatch.transfer.transfer import Transfer
from gpu_dispatch.worker.answer import leave_answer
from gpu_dispatch.worker.claim import CHECK_INTERVAL_S, HeldClaim, Identity, acquire_claim, while_held
from gpu_dispatch.worker.context import JobContext, Operation
from manifests.errors import DuplicateJob, ErrorInfo, GpuDropError, RunCancelled, TaskTimedOut, WorkerError

_LOG = logging.getLogger("gpu_dispatch.worker")

JobReport = Callable[[Progress], None]

# The range of each part of a job, in percent of the whole.
DOWNLOAD = (0.0, 10.0)
OPERATE = (10.0, 90.0)
UPLOAD = (90.0, 100.0)

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLAIM_LOST = frozenset({DuplicateJob.code, RunCancelled.code})

_STEP = 0.5
"""Percent; smaller progress within one stage is not reported."""


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """What all jobs of one worker share."""

    operations: Operation[TaskParams]
    work_root: Path
    """Holds the jobs' private folders."""
    file_root: Path | None = None
    """Local files that a task names must lie below it."""
    identity: Identity | None = None
    """None: tasks are not claimed, as on the user's own machine."""
    limits: TransferLimits = field(default_factory=TransferLimits)
    check_interval_s: float = CHECK_INTERVAL_S
    """Interval between checks of the claim."""


@dataclass(frozen=True, slots=True)
class ExecutionOutcome:
    """The outcome of a job."""

    result: GpuResult
    stored: bool = False
    """Whether the result also lies at the task's `answer_url`."""


async def run_job(
    task: GpuTask,
    *,
    operations: Operation[TaskParams],
    work_root: Path,
    file_root: Path | None,
    report: JobReport,
    limits: TransferLimits | None = None,
    identity: Identity | None = None,
) -> GpuResult:
    """Executes `task` as `execute_job` does and returns its result alone."""
    environment = JobEnvironment(operations, work_root, file_root, identity, limits or TransferLimits())
    return (await execute_job(task, environment, report)).result


async def execute_job(task: GpuTask, environment: JobEnvironment, report: JobReport) -> ExecutionOutcome:
    """Executes `task` and returns its payload or its error; raises only cancellation, after cleaning up.

    `report` is called from any thread with the percent of the whole job, which never falls, and not after the return. A
    job that does not hold the task's claim leaves neither outputs nor an answer. A job that was executed before returns
    the answer stored then.
    """
    started = time.monotonic()
    meter = ProgressMeter(report)
    execution = _JobExecution(task, environment, meter)
    payload: Payload | None = None
    error: ErrorInfo | None = None
    try:
        payload = await _in_time(task, execution.run())
    except GpuDropError as e:
        error = e.info
    except Exception as e:  # noqa: BLE001 - the outermost line of a job: its owner gets an answer whatever happens
        _LOG.exception("The task %s failed in a way no cause of error covers.", task.task_id)
        error = _defect(e).info
    finally:
        meter.close()
    if execution.answer:
        _LOG.info("The task %s was done before; its answer lies in the store.", task.task_id)
        return ExecutionOutcome(execution.answer, stored=True)
    result = GpuResult(
        task_id=task.task_id,
        payload=payload,
        error=error,
        execution_ms=round((time.monotonic() - started) * 1000),
        device=device_of(payload),
    )
    ours = execution.began and (error is None or error.code not in _CLAIM_LOST)
    return ExecutionOutcome(result, ours and await leave_answer(task, result, environment.limits))


def device_of(payload: Payload | None) -> str:
    """Returns the device that made `payload`: "cpu" or "cuda"."""
    if isinstance(payload, Videos):
        return "cuda" if payload.encoder.endswith("_nvenc") else "cpu"
    return payload.device if isinstance(payload, Transcript) else "cpu"


class ProgressMeter:
    """Combines the progress of a job's parts into one percent that never falls. Thread-safe."""

    def __init__(self, report: JobReport) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._last = Progress(0.0, "")
        self._open = True

    def update(self, part: tuple[float, float], progress: Progress) -> None:
        """Reports progress whose percent counts within `part`."""
        start, end = part
        percent = start + (end - start) * min(100.0, max(0.0, progress.percent)) / 100.0
        with self._lock:
            percent = max(percent, self._last.percent)
            same_stage = progress.stage == self._last.stage
            if not self._open or (same_stage and percent < min(self._last.percent + _STEP, 100.0)):
                return
            if same_stage and percent == self._last.percent:
                return
            self._last = Progress(round(percent, 1), progress.stage)
            self._report(self._last)

    def close(self) -> None:
        with self._lock:
            self._open = False


async def _in_time(task: GpuTask, work: Awaitable[Payload | None]) -> Payload | None:
    deadline = asyncio.timeout(task.timeout_s)
    try:
        async with deadline:
            return await work
    except TimeoutError as e:
        if not deadline.expired():
            raise
        raise TaskTimedOut(
            f"The task was not finished after {task.timeout_s:g} s.",
            hint="Use a shorter input, a smaller model or a faster GPU, or raise `task_timeout` in config.yaml.",
        ) from e


class _JobExecution:
    """One execution of a job."""

    def __init__(self, task: GpuTask, environment: JobEnvironment, meter: ProgressMeter) -> None:
        self._task = task
        self._environment = environment
        self._meter = meter
        self.began = False
        """Whether the task was claimed, or needs no claim."""
        self.answer: GpuResult | None = None
        """The answer of an earlier execution."""

    async def run(self) -> Payload | None:
        """Executes the task; returns None when an earlier execution has left its answer."""
        async with acquire_claim(self._task, self._environment.identity, self._environment.limits) as claim:
            self.answer = claim.answer if claim else None
            if self.answer:
                return None
            self.began = True
            return await while_held(claim, self._environment.check_interval_s, self._in_private_folder(claim))

    async def _in_private_folder(self, claim: HeldClaim | None) -> Payload:
        task, environment, meter = self._task, self._environment, self._meter
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="job-", dir=environment.work_root))
        try:
            async with Transfer(
                file_root=environment.file_root,
                trusted_hosts=task.trusted_hosts,
                max_input_bytes=task.max_input_bytes,
                limits=environment.limits,
            ) as transfer:
                job = JobContext(folder, partial(meter.update, OPERATE), task.max_output_bytes)
                await _download(task.inputs, job, transfer, meter)
                payload = await environment.operations(task.params, job)
                if claim is not None:
                    await claim.check()
                await _upload(task.outputs, job, transfer, meter)
                meter.update(UPLOAD, Progress(100.0, "upload"))
                return payload
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _download(inputs: Sequence[TaskInput], job: JobContext, transfer: Transfer, meter: ProgressMeter) -> None:
    moved = _share(meter, DOWNLOAD, "download", len(inputs))
    await gather_transfers(
        partial(transfer.download, source, job.path(source.name), partial(moved, i)) for i, source in enumerate(inputs)
    )


async def _upload(outputs: Sequence[TaskOutput], job: JobContext, transfer: Transfer, meter: ProgressMeter) -> None:
    """Uploads the outputs once all of them exist."""
    for output in outputs:
        await asyncio.to_thread(_check_left, job.path(output.name))
    moved = _share(meter, UPLOAD, "upload", len(outputs))
    await gather_transfers(
        partial(transfer.upload, job.path(output.name), output, partial(moved, i)) for i, output in enumerate(outputs)
    )


def _share(meter: ProgressMeter, part: tuple[float, float], stage: str, count: int) -> Callable[[int, float], None]:
    """Returns a progress callback for `count` concurrent transfers of equal weight."""
    fractions = [0.0] * count

    def moved(index: int, fraction: float) -> None:
        fractions[index] = fraction
        meter.update(part, Progress(100.0 * sum(fractions) / count, stage))

    return moved


def _check_left(path: Path) -> None:
    if not path.is_file() or path.is_symlink() or path.stat().st_size == 0:
        raise WorkerError(
            f"The operation ended without leaving {path.name}.",
            hint="This is a defect of the worker: report it with the manifest.",
            where=path.name,
        )


def _defect(e: Exception) -> WorkerError:
    if isinstance(e, OSError) and e.errno in _DISK_FULL:
        return WorkerError("The worker's disk is full.", hint="Give the worker more disk.", retryable=True)
    return WorkerError(
        f"The worker failed unexpectedly ({type(e).__name__}).",
        hint="This is a defect: the worker's log holds its traceback.",
    )
