"""What becomes of an endpoint's jobs: queued, taken, followed, ended, and every way that can go wrong."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from support.runpod.jobs import Auto, Execution, Job, Status
from support.runpod.waits import Bells, Timers

DEFAULT_EXECUTION_MS = 600_000
DEFAULT_TTL_MS = 86_400_000
RESULT_KEPT_S = 1800.0
WORK = ""
"""The bell for workers that wait for work; the bell for one worker's stops has the worker's name."""


class Life:
    """The queue and the rules of one endpoint. `Endpoint` says what may be set."""

    def __init__(
        self, id: str, url: str, *, workers_max: int, auto: Auto | None, tell: Callable[[Job, int], None]
    ) -> None:
        """`tell(job, copies)` posts to the job's webhook."""
        self.id = id
        self.url = url
        """Of the provider, without the /v2."""
        self.workers_max = workers_max
        self.auto = auto
        self.jobs: dict[str, Job] = {}
        """Every job ever sent, the deleted ones too, in the order they came."""
        self.workers: set[str] = set()
        self.pings: list[tuple[str, str]] = []
        """Heartbeats: the worker, and the ids of the jobs it says it runs, parted by commas."""
        self.health_workers: dict[str, int] = {}
        self.health_body: Any = None
        self.scale = 1.0
        self.result_kept_s = RESULT_KEPT_S
        self.drop_output = False
        self.late_progress = False
        self.stops_lost = False
        self.twice = False
        self.after_crash: Literal["requeue", "fail", "nothing"] = "requeue"
        self.webhook_copies = 1
        self.retried = 0
        self._tell = tell
        self._queue: deque[Job] = deque()
        self._stops: dict[str, list[str]] = {}
        self._timers = Timers()
        self._bells = Bells()
        self._changed = asyncio.Event()

    async def take(self, worker: str, count: int, hold_s: float, gone: Callable[[], bool]) -> list[Job]:
        """Up to `count` jobs, as soon as there is one within `hold_s`; none for a worker that has hung up meanwhile."""
        self.workers.add(worker)
        self._changed.set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + hold_s
        while not self._queue or not self._admitted(worker):
            if not await self._bells.heard(WORK, deadline - loop.time()):
                return []
        if gone():
            return []
        jobs = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        for job in jobs:
            self._started(job, worker)
        return jobs

    async def stops(self, worker: str, hold_s: float) -> list[str]:
        """The ids of the jobs `worker` shall stop, as soon as there is one within `hold_s`."""
        if worker not in self._stops:
            await self._bells.heard(worker, hold_s)
        return self._stops.pop(worker, [])

    def report(self, worker: str, job_id: str, body: dict[str, Any]) -> None:
        """A worker's post: a progress (`status` IN_PROGRESS), or its answer."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        if body.get("status") == "IN_PROGRESS":
            job.progress.append(body.get("output"))
            if job.status == "IN_PROGRESS":
                job.output = body.get("output")
            self._changed.set()
            return
        error = body.get("error")
        self._end_execution(job, worker, "failed" if error else "completed", str(error or ""))
        if not (job.final or job.stuck or job.gone):
            self._remove(job)
            self._finish(job, "FAILED" if error else "COMPLETED", body.get("output"), error)
            if self.late_progress and job.status == "COMPLETED":
                self.regress(job, job.progress[-1] if job.progress else None)
        self._changed.set()

    def worker_gone(self, worker: str, *, crashed: bool) -> None:
        """The process has ended. A crash leaves its jobs to `after_crash`, an orderly end gives them back."""
        self.workers.discard(worker)
        self._stops.pop(worker, None)
        for job in self.jobs.values():
            mine = [e for e in job.executions if e.worker == worker and e.outcome == "running"]
            if not mine:
                continue
            self._end_execution(job, worker, "crashed")
            if job.status != "IN_PROGRESS" or job.worker != worker or job.stuck or job.gone:
                continue
            if not crashed or self.after_crash == "requeue":
                job.status, job.output = "IN_QUEUE", None
                self._push(job, first=True)
            elif self.after_crash == "fail":
                self._finish(job, "FAILED", error="worker exited with exit code 137")
        self._bells.ring(WORK)
        self._changed.set()

    def close(self) -> None:
        for job in self.jobs.values():
            self._timers.end(job.id)

    def submit(self, body: dict[str, Any]) -> Job:
        now = asyncio.get_running_loop().time()
        policy = dict(body.get("policy") or {})
        job = Job(f"{uuid.uuid4()}-u1", body["input"], policy, body.get("webhook"), now)
        self.jobs[job.id] = job
        self._timers.after(job.id, policy.get("ttl", DEFAULT_TTL_MS) / 1000 * self.scale, lambda: self.lose(job))
        if self.auto:
            self._timers.after(job.id, self.auto.delay_s, lambda: self._start_alone(job))
        else:
            self._push(job)
        return job

    def cancel(self, job: Job) -> None:
        if job.final:
            return
        self._remove(job)
        self._stop(job)
        self._finish(job, "CANCELLED")

    def retry(self, job: Job) -> bool:
        """Only FAILED and TIMED_OUT ones are taken."""
        if job.status not in ("FAILED", "TIMED_OUT"):
            return False
        self.retried += 1
        job.retries += 1
        job.output, job.error, job.started, job.ended = None, None, None, None
        job.status = "IN_QUEUE"
        self._timers.end(job.id)
        if self.auto:
            self._timers.after(job.id, self.auto.delay_s, lambda: self._start_alone(job))
        else:
            self._push(job)
        return True

    def purge(self) -> int:
        purged = [job for job in self._queue if job.status == "IN_QUEUE"]
        for job in purged:
            self.cancel(job)
        return len(purged)

    def _admitted(self, worker: str) -> bool:
        """Whether the provider would let this worker run beside the busy ones."""
        busy = {job.worker for job in self.jobs.values() if job.status == "IN_PROGRESS" and not job.stuck}
        return len(busy | {worker}) <= self.workers_max

    def _push(self, job: Job, *, first: bool = False) -> None:
        (self._queue.appendleft if first else self._queue.append)(job)
        self._bells.ring(WORK)
        self._changed.set()

    def _remove(self, job: Job) -> None:
        self._queue = deque(each for each in self._queue if each is not job)

    def _started(self, job: Job, worker: str) -> None:
        now = asyncio.get_running_loop().time()
        job.executions.append(Execution(worker, now))
        if job.final or job.gone:
            return
        job.status, job.worker, job.started = "IN_PROGRESS", worker, now
        self._timers.after(
            job.id,
            job.policy.get("executionTimeout", DEFAULT_EXECUTION_MS) / 1000 * self.scale,
            lambda number=job.taken: self._overdue(job, number),
        )
        if self.twice and job.taken == 1:
            self._push(job)
        self._changed.set()

    def _overdue(self, job: Job, number: int) -> None:
        if job.final or job.stuck or job.gone or job.taken != number:
            return
        self._stop(job)
        self._finish(job, "TIMED_OUT", error="job timed out after exceeding its execution timeout")

    def _stop(self, job: Job) -> None:
        if self.stops_lost:
            return
        for execution in job.executions:
            if execution.outcome == "running" and execution.worker in self.workers:
                execution.outcome, execution.ended = "stopped", asyncio.get_running_loop().time()
                self._stops.setdefault(execution.worker, []).append(job.id)
                self._bells.ring(execution.worker)

    def _finish(self, job: Job, status: Status, output: Any = None, error: Any = None) -> None:
        job.ended = asyncio.get_running_loop().time()
        job.status, job.error = status, error
        job.output = None if self.drop_output and status == "COMPLETED" else output
        self._timers.end(job.id)
        self._timers.after(job.id, self.result_kept_s, lambda: self.expire(job))
        self._bells.ring(WORK)
        self._changed.set()
        if job.webhook:
            self._tell(job, self.webhook_copies)

    def _end_execution(
        self, job: Job, worker: str, outcome: Literal["completed", "failed", "crashed"], error: str = ""
    ):
        for execution in reversed(job.executions):
            if execution.worker == worker and execution.outcome in ("running", "stopped"):
                execution.outcome, execution.error = outcome, error
                execution.ended = asyncio.get_running_loop().time()
                return

    def _start_alone(self, job: Job) -> None:
        if job.status != "IN_QUEUE" or job.gone or not self.auto:
            return
        self._started(job, f"auto-{len(self.jobs) % max(1, self.workers_max)}")
        self._timers.after(job.id, self.auto.after_s, lambda: self._end_alone(job))

    def _end_alone(self, job: Job) -> None:
        if not self.auto or not job.executions or job.executions[-1].outcome != "running":
            return
        output = self.auto.output(job)
        body = {"output": output}
        if isinstance(output, dict) and "error" in output:
            body = {"error": output["error"], "output": {k: v for k, v in output.items() if k != "error"} or None}
        self.report(job.worker, job.id, body)
