"""One endpoint of the provider, as a test sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.deadlines import HANG_S
from support.runpod.jobs import FINAL, Job, Status
from support.runpod.life import Life
from support.runpod.processes import Program, Worker, running_worker


class Endpoint(Life):
    """What others may set at any time:

    `workers_max` 0 leaves everything in the queue for ever. `health_workers` replaces counts of /health ("idle",
    "initializing", "ready", "running", "throttled", "unhealthy"); `health_body` replaces all of it.
    `scale` shortens executionTimeout and ttl: at 0.1 the shortest timeout (5 s) takes half a second.

    Faults of the provider itself, for every job from then on: `drop_output` (COMPLETED without output), `late_progress`
    (every completed job ends as IN_PROGRESS, as if a progress post had come last), `stops_lost` (a cancelled or timed
    out job goes on), `twice` (a job that is taken is queued again at once), `after_crash` (of a job whose worker died:
    "requeue", "fail", or "nothing": IN_PROGRESS for ever), `webhook_copies` (0: lost, 2: each told twice).
    """

    def job(self) -> Job:
        """The newest one."""
        return list(self.jobs.values())[-1]

    @property
    def paid(self) -> int:
        """Executions there were, whatever came of them."""
        return sum(job.taken for job in self.jobs.values())

    async def until(self, condition: Callable[[], object], within_s: float = HANG_S) -> None:
        """Returns when `condition` holds; it is looked at after every change of a job. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def lose(self, job: Job) -> None:
        """The provider forgets it: 404 from now on. A worker that has it goes on."""
        self._remove(job)
        self._timers.end(job.id)
        job.gone = True
        self._changed.set()

    def expire(self, job: Job) -> None:
        """Its result has been kept long enough: 404 from now on."""
        self.lose(job)

    def requeue(self, job: Job) -> None:
        """Another worker is given the same job, though the first may still run it."""
        self._push(job)

    def stick(self, job: Job) -> None:
        """IN_PROGRESS for ever, whatever its worker says."""
        job.stuck = True
        job.status = "IN_PROGRESS"

    def regress(self, job: Job, progress: Any = None) -> None:
        """A progress post that comes after the end and wins: IN_PROGRESS for ever."""
        job.status, job.output, job.error, job.ended = "IN_PROGRESS", progress, None, None

    def flap(self, job: Job, status: Status = "COMPLETED", looks: int = 1) -> None:
        """The next looks find it ended, without a word of how; after them it is as it was."""
        job.lies.extend([{"status": status, "output": None, "error": None}] * looks)

    def confuse(self, job: Job, other: Job, looks: int = 1) -> None:
        """The next looks are answered with what `other`, as it stands now, came to: its id, its output."""
        nothing = dict.fromkeys(("output", "error", "executionTime"))
        job.lies.extend([nothing | other.document()] * looks)

    def mix_up(self, job: Job, other: Job, looks: int = 1) -> None:
        """The next looks are answered with `other`'s output under the job's own id."""
        job.lies.extend([{"status": other.status, "output": other.output, "error": other.error}] * looks)

    @asynccontextmanager
    async def worker(
        self, program: Program = "real", *, count: int = 1, restart: bool = False, **env: str
    ) -> AsyncIterator[Worker]:
        """Real SDK worker processes that serve this endpoint: see `support.runpod.processes`."""
        async with running_worker(self, program, count=count, restart=restart, env=env) as worker:
            yield worker

    def health(self) -> Any:
        if self.health_body is not None:
            return self.health_body
        jobs = [job for job in self.jobs.values() if not job.gone]
        count = {status: sum(job.status == status for job in jobs) for status in FINAL | {"IN_QUEUE", "IN_PROGRESS"}}
        busy = {job.worker for job in jobs if job.status == "IN_PROGRESS" and job.worker}
        ready = len(self.workers) if not self.auto else self.workers_max
        workers = {"idle": max(0, ready - len(busy)), "initializing": 0, "ready": ready, "running": len(busy)}
        return {
            "jobs": {
                "completed": count["COMPLETED"],
                "failed": count["FAILED"] + count["TIMED_OUT"],
                "inProgress": count["IN_PROGRESS"],
                "inQueue": count["IN_QUEUE"],
                "retried": self.retried,
            },
            "workers": workers | {"throttled": 0, "unhealthy": 0} | self.health_workers,
        }
