"""The backend of this machine: runs the worker in child processes."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.backend import Health, JobRef, JobStatus
from gpu_dispatch.local.cgroups import Delegation, groups_here
from gpu_dispatch.local.child import ScratchFolder, WorkerProcess
from gpu_dispatch.local.job import (
    JobQueue,
    LocalJob,
    cancelled_error,
    defect_error,
    ended_status,
    finished_status,
    health_of,
    silence_error,
)
from gpu_dispatch.local.limits import CHECK_INTERVAL_S, JobLimits, JobUsage, excess, group_for, limits_of, usage
from gpu_dispatch.local.settings import LocalSettings, child_command, child_environment
from gpu_dispatch.protocol import CancelOrder, DoneReport, ProgressReport, RunOrder
from gpu_dispatch.task import Capability, GpuResult, GpuTask, TaskParams
from manifests.errors import EngineUnavailable, WorkerError

_LOG = logging.getLogger("gpu_dispatch.local")

KEPT_S = 30.0
"""Seconds for which a result with a payload is kept; its follower gets it at once."""
_CLOSE_S = 5.0
"""Longest wait for the end of the children; it takes more than a moment on a busy machine."""
_AFTER_DEFECT_S = 0.5
"""Pause of a slot after a defect: it does not spin when every job meets the same one."""


@dataclass(slots=True)
class _Slot:
    child: WorkerProcess | None = None
    job: LocalJob | None = None
    worn_out: bool = False
    """The child gets no further job."""


class LocalBackend:
    """A GpuBackend with a queue, in which folders take turns, and slots for each capability.

    Each slot has its own child, which starts with the first task and stays warm; it inherits from `environ` no variable
    that looks like a secret. The express slot takes short jobs that have waited.
    """

    endpoint_id = ""
    durable = False
    claims = False

    def __init__(self, settings: LocalSettings, *, environ: Mapping[str, str]) -> None:
        self.name = settings.name
        self._settings = settings
        self._environ = environ
        self._queues: dict[Capability, JobQueue] = {}
        self._jobs: dict[str, LocalJob] = {}
        self._over: deque[str] = deque()
        self._children: dict[str, WorkerProcess] = {}
        self._problem: dict[Capability, str] = {}
        self._serving: list[asyncio.Task[None]] = []
        self._scratch: ScratchFolder | None = None
        self._groups = Delegation()

    def refusal(self, params: TaskParams) -> str:
        return "" if self._settings.slots.get(params.capability) else f"no {params.capability} slots on this machine"

    async def start(self) -> None:
        parent = self._settings.work_parent or Path(tempfile.gettempdir())
        self._scratch = await asyncio.to_thread(ScratchFolder, parent)
        self._groups = await asyncio.to_thread(groups_here)
        for capability, count in self._settings.slots.items():
            self._queues[capability] = JobQueue()
            self._serving += [asyncio.create_task(self._serve(capability, self._scratch.path)) for _ in range(count)]
            if count and not (capability == "whisper" and self._settings.gpu):
                self._serving.append(asyncio.create_task(self._serve_express(capability, self._scratch.path)))

    async def submit(self, task: GpuTask) -> JobRef:
        capability = task.params.capability
        if self._scratch is None or not self._settings.slots.get(capability):
            raise EngineUnavailable(
                f"This machine takes no {capability} tasks now.",
                hint=f"Give `local.{capability}_slots` at least 1 in config.yaml.",
            )
        ref = JobRef(self.name, capability, uuid.uuid4().hex, task.task_id)
        job = self._jobs[ref.job_id] = LocalJob(ref, task, time.monotonic())
        self._queues[capability].put(job, short=task.short)
        return ref

    async def restart(self, job: JobRef) -> bool:
        """Returns False: what is known of a job ends with its process."""
        del job
        return False

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        known = self._jobs.get(job.job_id)
        if known is None:
            return JobStatus("lost")
        if wait_s > 0 and not known.status.final:
            await known.change(wait_s)
        return known.status

    async def cancel(self, job: JobRef) -> None:
        """Stops a job and returns once none of its processes runs."""
        known = self._jobs.get(job.job_id)
        if known is None or known.status.final:
            return
        child = self._children.get(job.job_id)
        if child is None:
            self._finish(known, ended_status(known, cancelled_error()))
            return
        known.stop = known.stop or "cancelled"
        self._kill_later(known, child, self._settings.cancel_grace_s)
        await child.send(CancelOrder(job.job_id))
        await known.finished()

    async def health(self) -> tuple[Health, ...]:
        return tuple(self._health_of(capability) for capability in self._settings.slots)

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving, timeout=_CLOSE_S)
        self._serving.clear()
        for job in list(self._jobs.values()):
            if not job.status.final:
                self._finish(job, JobStatus("lost"))
        scratch, self._scratch = self._scratch, None
        if scratch:
            await asyncio.to_thread(scratch.close)

    async def _serve(self, capability: Capability, scratch: Path) -> None:
        """Serves one slot until cancelled. A defect costs the current job and the child, never the slot."""
        slot = _Slot()
        try:
            while True:
                try:
                    await self._serve_next(slot, capability, scratch)
                except Exception as e:  # noqa: BLE001 - the supervisor of a slot
                    _LOG.exception("A slot for %s tasks on this machine failed; it is served anew.", capability)
                    slot.worn_out = True
                    if slot.job:
                        self._finish(slot.job, ended_status(slot.job, defect_error(e)))
                    await asyncio.sleep(_AFTER_DEFECT_S)
        finally:
            if slot.child:
                await slot.child.end()

    async def _serve_express(self, capability: Capability, scratch: Path) -> None:
        """Does short jobs that have waited, until cancelled. Each gets a new child: no memory is held in between."""
        queue, settings = self._queues[capability], self._settings
        while True:
            job = await queue.take_short(settings.express_after_s)
            child: WorkerProcess | None = None
            try:
                child = await self._started(job, capability, scratch)
                if child and not job.status.final:
                    async with asyncio.timeout(settings.express_s):
                        await self._do(job, child)
            except TimeoutError:
                _LOG.info("The task %s takes longer than it seemed to; it waits for its turn.", job.task.task_id)
            except Exception as e:  # noqa: BLE001 - the supervisor of a slot
                _LOG.exception("The express slot for %s tasks on this machine failed.", capability)
                self._finish(job, ended_status(job, defect_error(e)))
                await asyncio.sleep(_AFTER_DEFECT_S)
            finally:
                if child:
                    await child.end()
            if job.stop:
                self._finish(job, ended_status(job, silence_error(job, "")))
            elif not job.status.final:
                job.update(JobStatus("queued"))
                queue.put(job, short=False)

    async def _serve_next(self, slot: _Slot, capability: Capability, scratch: Path) -> None:
        """Ends a worn-out child, takes a job and does it, in a child that is started when needed."""
        if slot.child and slot.worn_out:
            child, slot.child = slot.child, None
            await child.end()
        slot.worn_out = False
        job = slot.job = await self._take(capability, self._settings.idle_s if slot.child else None)
        slot.worn_out = job is None
        if job and not job.status.final:
            slot.child = slot.child or await self._started(job, capability, scratch)
            if slot.child and not job.status.final:
                slot.worn_out = not await self._do(job, slot.child)

    async def _take(self, capability: Capability, within_s: float | None) -> LocalJob | None:
        try:
            async with asyncio.timeout(within_s):
                return await self._queues[capability].take()
        except TimeoutError:
            return None

    async def _started(self, job: LocalJob, capability: Capability, scratch: Path) -> WorkerProcess | None:
        """Starts a child. Returns None when that fails, and fails `job`."""
        try:
            folder = scratch / uuid.uuid4().hex
            environ = child_environment(self._environ, self._settings.threads_of(capability))
            command = child_command(self._settings, folder)
            group = await asyncio.to_thread(group_for, self._settings, capability, self._groups, scratch)
            child = await WorkerProcess.start(command, environ=environ, work_root=folder, group=group)
        except EngineUnavailable as e:
            self._problem[capability] = e.info.message
            self._finish(job, ended_status(job, e))
            return None
        self._problem.pop(capability, None)
        return child

    async def _do(self, job: LocalJob, child: WorkerProcess) -> bool:
        """Runs `job` to its end. Returns whether `child` can take another one."""
        delay_ms = round((time.monotonic() - job.submitted) * 1000)
        self._children[job.ref.job_id] = child
        job.update(JobStatus("running"))
        overdue = self._overdue_after(job, child)
        watch = asyncio.create_task(self._watch(job, child))
        try:
            result = await self._exchange(job, child)
            breach = child.breach
            if breach and not job.excess:
                job.excess = excess(JobUsage(), await self._limits(job, child), breach)
            if result is None:
                await child.end()
        finally:
            overdue.cancel()
            watch.cancel()
            del self._children[job.ref.job_id]
        if result is None or (result.error and job.excess):
            self._finish(job, ended_status(job, silence_error(job, child.last_words), delay_ms))
            return False
        self._finish(job, finished_status(job.status, result, delay_ms))
        return not breach and (result.error is None or result.error.code != WorkerError.code)

    async def _exchange(self, job: LocalJob, child: WorkerProcess) -> GpuResult | None:
        """Returns the worker's answer; None when it ended without one."""
        await child.send(RunOrder(job.ref.job_id, job.task))
        while (report := await child.next()) is not None:
            if isinstance(report, ProgressReport) and report.job == job.ref.job_id:
                job.move(report.progress)
            elif isinstance(report, DoneReport) and report.job == job.ref.job_id:
                return report.result
        return None

    async def _limits(self, job: LocalJob, child: WorkerProcess) -> JobLimits:
        return await asyncio.to_thread(limits_of, self._settings, job.task.params.capability, child.work_root)

    async def _watch(self, job: LocalJob, child: WorkerProcess) -> None:
        """Ends a job that exceeds its limits, before other programs on the machine suffer."""
        limits = await self._limits(job, child)
        while job.excess is None:
            await asyncio.sleep(CHECK_INTERVAL_S)
            job.excess = excess(await asyncio.to_thread(usage, child.pid, child.work_root), limits, child.breach)
        _LOG.warning("%s (task %s)", job.excess.info.message, job.task.task_id)
        child.kill()

    def _overdue_after(self, job: LocalJob, child: WorkerProcess) -> asyncio.TimerHandle:
        """Schedules the end of a worker that fails to keep the deadline itself."""

        def overdue() -> None:
            job.stop = job.stop or "timed_out"
            child.kill()

        after_s = job.task.timeout_s + self._settings.timeout_grace_s
        return asyncio.get_running_loop().call_later(after_s, overdue)

    def _kill_later(self, job: LocalJob, child: WorkerProcess, after_s: float) -> None:
        def kill() -> None:
            if not job.status.final:
                child.kill()

        asyncio.get_running_loop().call_later(after_s, kill)

    def _finish(self, job: LocalJob, status: JobStatus) -> None:
        """Records the final status. Only the last ones are kept, large ones (with a payload) for `KEPT_S`."""
        if job.status.final:
            return
        job.update(status)
        if status.result and status.result.payload:
            asyncio.get_running_loop().call_later(KEPT_S, self._jobs.pop, job.ref.job_id, None)
        self._over.append(job.ref.job_id)
        while len(self._over) > self._settings.keep_results:
            self._jobs.pop(self._over.popleft(), None)

    def _health_of(self, capability: Capability) -> Health:
        jobs = [job for job in self._jobs.values() if job.ref.endpoint == capability]
        return health_of(
            f"{self.name} {capability}", jobs, self._settings.slots[capability], self._problem.get(capability)
        )
