"""Polls the jobs of one endpoint and updates their cached status."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from gpu_dispatch.backend import JobStatus
from gpu_dispatch.backoff import Backoff, Deadline
from gpu_dispatch.compression import packed
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.errors import wrong_job_response
from gpu_dispatch.runpod.job_cache import CachedJob, Durations, InFlightCounter, PollInterval, PollMoment
from gpu_dispatch.runpod.responses import JobResponse, JobState, job_state_of
from gpu_dispatch.runpod.settings import RunPodSettings
from manifests.errors import EndpointUnavailable

_LOG = logging.getLogger("gpu_dispatch.runpod")

POLL_BACKOFF = Backoff(base_s=0.5, cap_s=5.0)


@dataclass(frozen=True, slots=True)
class PollerServices:
    """What the pollers of all endpoints of one listener share, so that their calls are limited together."""

    pace: PollInterval = field(default_factory=PollInterval)
    in_flight: InFlightCounter = field(default_factory=InFlightCounter)
    durations: Durations = field(default_factory=Durations)
    rng: random.Random = field(default_factory=random.Random)


class JobPoller:
    """Polls the jobs of one endpoint; `ended` is called with each job that becomes final."""

    def __init__(
        self, settings: RunPodSettings, client: RunPodClient, shared: PollerServices, ended: Callable[[CachedJob], None]
    ) -> None:
        self._settings = settings
        self._client = client
        self._shared = shared
        self._ended = ended
        self._closed = False

    def close(self) -> None:
        """Makes pending `wait_for_change` calls raise EndpointUnavailable as soon as their job's `wake` is set."""
        self._closed = True

    async def wait_for_change(self, job: CachedJob, wait_s: float) -> JobStatus:
        """Returns the status now, or after the next change within `wait_s` seconds.

        Raises EndpointUnavailable when the last poll in that time failed.
        """
        before = job.status
        deadline = Deadline.after(wait_s, now())
        problem: EndpointUnavailable | None = None
        failures = 0
        while True:
            due_s = self._due_s(job, wait_s)
            # With no status to return, the poll that confirms or refutes the end is awaited.
            left_s = due_s if job.only_unconfirmed else deadline.left(now())
            woken = due_s > 0 and await _woken(job.wake, min(due_s, left_s))
            self._check_open()
            if job.final_status:
                return job.final_status
            if due_s > left_s and not woken:
                return _known(job, problem)
            if job.wake.is_set():
                job.on_notice()
            try:
                await self._poll(job)
                problem, failures = None, 0
            except EndpointUnavailable as e:
                problem, failures = e, failures + 1
                job.next_poll_at = now() + POLL_BACKOFF.delay(failures, self._shared.rng)
            if problem is None and job.status and (job.status != before or job.status.final):
                return job.status
            if deadline.over(now()) and not (job.only_unconfirmed and problem is None):
                return _known(job, problem)

    def schedule(self, job: CachedJob) -> None:
        """Sets when `job` is polled next."""
        shared, at = self._shared, now()
        moment = PollMoment(
            max(1, job.polls),
            shared.in_flight.size,
            None if job.running_since is None else at - job.running_since,
            shared.durations.expected(job.ref.endpoint, job.operation),
        )
        job.next_poll_at = at + shared.pace.jittered(moment, shared.rng)

    def _schedule_second(self, job: CachedJob) -> None:
        """Sets when an unconfirmed end is polled again: soon, but within the common rate of all polls."""
        shared = self._shared
        gap_s = shared.pace.jittered(PollMoment(1, shared.in_flight.size), shared.rng)
        job.next_poll_at = max(now() + gap_s, (job.unconfirmed_since or now()) + self._settings.confirm_s)

    def _due_s(self, job: CachedJob, wait_s: float) -> float:
        """Seconds until the next poll. Without `wait_s` it is due at once, unless the last was a moment ago."""
        if (job.status is None or job.result_dropped) and not job.only_unconfirmed:
            return 0.0
        if wait_s > 0 or job.only_unconfirmed:
            return max(0.0, job.next_poll_at - now())
        return max(0.0, job.polled_at + self._shared.pace.first_s - now())

    async def _poll(self, job: CachedJob) -> None:
        """Polls `job` once. Raises EndpointUnavailable for a response about another job."""
        answer = await self._client.status(job.ref.endpoint, job.ref.job_id)
        reading = await self._read(job, answer)
        if reading.mistaken_for:
            self._log_mistaken(job, reading.mistaken_for)
        if reading.status is None:
            raise wrong_job_response(job.ref.endpoint, job.ref.job_id)
        if not job.is_confirmed(reading.confirmed, now(), self._settings.confirm_s):
            self._schedule_second(job)
            return
        if answer is not None:
            self._learn(job, answer, reading.status)
        job.update(reading.status, now())
        self.schedule(job)
        if job.status and job.status.final:
            self._ended(job)

    async def _read(self, job: CachedJob, answer: JobResponse | None) -> JobState:
        """Derives the job's state, in a thread where there may be a large result."""
        if answer is not None:
            read = partial(job_state_of, answer, job.ref, self._settings.dialect, cancelled=job.cancelled)
            return await asyncio.to_thread(lambda: _packed(read())) if answer.state == "completed" else read()
        if self._fresh(job):
            return JobState(job.status or JobStatus("queued"))
        return JobState(JobStatus("lost"), confirmed=False)

    def _log_mistaken(self, job: CachedJob, mistaken_for: str) -> None:
        """Logs a response about another job or task, once for each in a row: a faulty provider is polled often."""
        if mistaken_for != job.mistaken_for:
            job.mistaken_for = mistaken_for
            asked = f"{job.ref.job_id} at {self._settings.name}"
            _LOG.warning("RunPod was asked for the job %s and spoke of %s; it is not believed.", asked, mistaken_for)

    def _fresh(self, job: CachedJob) -> bool:
        """Whether the job was sent so recently that RunPod's status service may not know it yet."""
        return job.submitted is not None and now() - job.submitted < self._settings.visibility_grace_s

    def _learn(self, job: CachedJob, answer: JobResponse, news: JobStatus) -> None:
        if news.state == "completed" and answer.execution_ms and job.operation:
            self._shared.durations.learn(job.ref.endpoint, job.operation, answer.execution_ms / 1000)

    def _check_open(self) -> None:
        if self._closed:
            raise EndpointUnavailable(
                f"Endpoint {self._settings.name} is not asked any more: this program is ending.",
                hint="The job goes on; the next start asks for it.",
            )


def _packed(reading: JobState) -> JobState:
    """Returns `reading` with a large result compressed."""
    status = reading.status
    if status is None or status.result is None:
        return reading
    return replace(reading, status=replace(status, result=packed(status.result)))


def now() -> float:
    return asyncio.get_running_loop().time()


def _known(job: CachedJob, problem: EndpointUnavailable | None) -> JobStatus:
    if problem or job.status is None:
        raise problem or EndpointUnavailable("RunPod has not been asked for the job yet.", hint="Ask again.")
    return job.status


async def _woken(wake: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await wake.wait()
    except TimeoutError:
        return False
