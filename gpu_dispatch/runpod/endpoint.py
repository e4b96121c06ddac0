"""One RunPod endpoint as a GpuBackend, and its health."""

from __future__ import annotations

import asyncio

from gpu_dispatch.backend import Health, JobRef, JobStatus
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.job_cache import CachedJob, JobCache
from gpu_dispatch.runpod.poller import JobPoller, PollerServices, now
from gpu_dispatch.runpod.responses import EndpointResponse, JobResponse, job_status_of
from gpu_dispatch.runpod.retries import RetryingCalls
from gpu_dispatch.runpod.settings import RunPodSettings
from gpu_dispatch.runpod.submission import body_of
from gpu_dispatch.runpod.webhook import WebhookHints
from gpu_dispatch.task import GpuTask, TaskParams
from manifests.errors import GpuDropError, TaskRefused

_SHOWN = ("running", "idle", "initializing", "throttled", "unhealthy")
_ABLE = ("running", "idle", "ready", "initializing")

_NO_WORKERS = (
    "No worker is there and none is being started, with jobs in the queue",
    "Set the endpoint's max workers to 1 or more (RunPod lowers it by itself when an endpoint is idle for days), "
    "and check the account's credit.",
)
_THROTTLED = (
    "Every worker is throttled: RunPod has no such GPU free",
    "Add GPU pools or regions to the endpoint, or name a second endpoint in config.yaml.",
)
_CRASHING = (
    "Every worker is unhealthy, with jobs in the queue: they crash as they start",
    "See the workers' log on RunPod: a wrong image, a failed check of the GPU, or too little memory.",
)


def health_text(name: str, answer: EndpointResponse) -> Health:
    """Returns the endpoint's health: its counts of workers and jobs, and what is wrong with them."""
    detail = _counts(answer)
    problem = _problem(answer)
    if problem is None:
        return Health(name, True, detail)
    return Health(name, False, f"{problem[0]} ({detail}).", problem[1], serves=problem is _THROTTLED)


def _problem(answer: EndpointResponse) -> tuple[str, str] | None:
    """Returns what keeps jobs from being done; None while any worker runs, is idle or starts."""
    if any(answer.workers.get(state) for state in _ABLE):
        return None
    queued = answer.jobs.get("inQueue", 0) > 0
    if answer.workers.get("unhealthy") and queued:
        return _CRASHING
    if answer.workers.get("throttled"):
        return _THROTTLED
    return _NO_WORKERS if queued and answer.workers else None


def _counts(answer: EndpointResponse) -> str:
    there = [f"{answer.workers[state]} {state}" for state in _SHOWN if answer.workers.get(state)]
    workers = ", ".join(there) or "none"
    running, queued = answer.jobs.get("inProgress", 0), answer.jobs.get("inQueue", 0)
    return f"workers: {workers}; jobs: {running} running, {queued} queued"


class RunPodEndpoint:
    """A GpuBackend for one endpoint. `client` is shared, and started and closed by its owner.

    Jobs go on after `close`. Without `hints` jobs are only polled. A task over RunPod's size limit is sent by reference
    (`GpuTask.stored_at`).
    """

    durable = True

    def __init__(
        self,
        settings: RunPodSettings,
        client: RunPodClient,
        *,
        shared: PollerServices | None = None,
        hints: WebhookHints | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._hints = hints
        self._shared = shared or PollerServices()
        self._cache = JobCache(self._unhinted)
        self._watcher = JobPoller(settings, client, self._shared, self._cache.ended)
        self._retrying = RetryingCalls(client, self._shared.rng, settings.retry_for_s)
        if settings.rate_per_s:
            client.rate_limiter.set_submission_rate(settings.endpoint_id, settings.rate_per_s)

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def endpoint_id(self) -> str:
        return self._settings.endpoint_id

    @property
    def claims(self) -> bool:
        return self._settings.dialect.claims

    def refusal(self, params: TaskParams) -> str:
        return self._settings.dialect.refusal(params)

    async def start(self) -> None:
        """Does nothing: the first call connects."""

    async def submit(self, task: GpuTask) -> JobRef:
        if reason := self.refusal(task.params):
            raise TaskRefused(
                f"Endpoint {self.name} cannot do the task: {reason}.", hint="Give config.yaml an endpoint that can."
            )
        wake = asyncio.Event()
        webhook, hint = self._hints.address(wake) if self._hints else (None, "")
        taken = False
        try:
            body = body_of(task, self._settings, webhook=webhook)
            job_id = await self._client.run(self._settings.endpoint_id, body)
            taken = True
        finally:
            if self._hints and not taken:
                self._hints.forget(hint)
        ref = JobRef(self.name, self._settings.endpoint_id, job_id, task.task_id)
        job = CachedJob(ref, task.params.operation, now(), hint, wake=wake)
        job.update(JobStatus("queued"), now())
        self._watcher.schedule(job)
        self._cache.add(job)
        return ref

    async def restart(self, job: JobRef) -> bool:
        """Restarts a failed job; False where workers claim, as a new job is harmless there and easier to bill."""
        if self.claims or not await self._retrying.run_again(job, self._has_no_payload):
            return False
        followed = self._followed(job)
        followed.restart(now())
        self._expect(followed)
        return True

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        """Raises EndpointUnavailable when RunPod gave no status within `wait_s`, or the endpoint is closed."""
        followed = self._followed(job)
        if followed.final_status:
            return followed.final_status
        with self._shared.in_flight.one_more():
            return await self._watcher.wait_for_change(followed, wait_s)

    async def cancel(self, job: JobRef) -> None:
        """Raises EndpointUnavailable when RunPod does not accept the cancel within `retry_for_s`."""
        followed = self._followed(job)
        if followed.status and followed.status.final:
            return
        followed.cancelled = await self._retrying.cancel(job) or followed.cancelled
        followed.poll_now()

    async def health(self) -> tuple[Health, ...]:
        """Checks a problem twice: for some seconds after a submission it is normal that no worker is there."""
        try:
            line = await self._asked()
            if not line.ok:
                await asyncio.sleep(self._settings.health_recheck_s)
                line = await self._asked()
        except GpuDropError as e:
            line = Health(self.name, False, e.info.message, e.info.hint, serves=e.retryable)
        return (line,)

    async def close(self) -> None:
        self._watcher.close()
        for job in self._cache.all():
            job.wake.set()
            self._unhinted(job)

    def _has_no_payload(self, answer: JobResponse) -> bool:
        """Whether the job counts as completed at RunPod but has no payload."""
        result = job_status_of(answer, "", self._settings.dialect).result
        return answer.state == "completed" and not (result and result.payload)

    async def _asked(self) -> Health:
        return health_text(self.name, await self._client.health(self._settings.endpoint_id))

    def _followed(self, ref: JobRef) -> CachedJob:
        job = self._cache.of(ref)
        if job is None:
            job = self._cache.add(CachedJob(ref))
            self._expect(job)
        return job

    def _expect(self, job: CachedJob) -> None:
        if self._hints:
            self._hints.expect(job.webhook_name or job.ref.job_id, job.wake)

    def _unhinted(self, job: CachedJob) -> None:
        if self._hints:
            self._hints.forget(job.webhook_name, job.ref.job_id)
