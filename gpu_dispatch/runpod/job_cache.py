"""The cache of RunPod's jobs: each job's last status, and when it is polled next."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.runpod.responses import merged, with_task_id

_WEIGHT = 0.2
_EARLY = 0.8
_STEP = 0.1
_OVERDUE_STEP = 0.25


@dataclass(frozen=True, slots=True)
class PollMoment:
    """What the interval to a job's next poll depends on."""

    polls: int
    """Polls that found nothing new, counted from 1."""
    in_flight: int = 1
    """Jobs polled now, at all endpoints."""
    running_s: float | None = None
    """How long the job has been seen running; None: it has not."""
    expected_s: float | None = None
    """How long such jobs take; None: unknown."""


@dataclass(frozen=True, slots=True)
class PollInterval:
    """The interval between polls of a job: short at first, since many jobs are short, then growing.

    A job whose usual duration is known is polled rarely until most of it has passed.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    growth: float = 1.5
    """Factor from one interval to the next."""
    calls_per_s: float = 50.0
    """Bound of all polls together: intervals grow with the number of jobs."""
    spread: float = 0.2
    """Jitter, as a fraction of the interval."""

    def gap(self, moment: PollMoment) -> float:
        return max(self._alone(moment), moment.in_flight / self.calls_per_s)

    def jittered(self, moment: PollMoment, rng: random.Random) -> float:
        """Returns the interval with jitter, so that jobs sent together are not polled together."""
        return self.gap(moment) * rng.uniform(1.0 - self.spread, 1.0 + self.spread)

    def _alone(self, moment: PollMoment) -> float:
        if moment.running_s is None or not moment.expected_s:
            return min(self.longest_s, self.first_s * self.growth ** min(moment.polls - 1, 64))
        early = _EARLY * moment.expected_s - moment.running_s
        if early > 0:
            return min(self.longest_s, max(self.first_s, early))
        late = max(_STEP * moment.expected_s, _OVERDUE_STEP * (moment.running_s - moment.expected_s))
        return min(self.longest_s, max(self.first_s, late))


class Durations:
    """How long jobs of an operation take at an endpoint: an exponential moving average."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], float] = {}

    def learn(self, endpoint_id: str, operation: str, seconds: float) -> None:
        known = self._means.get((endpoint_id, operation), seconds)
        self._means[endpoint_id, operation] = known + _WEIGHT * (seconds - known)

    def expected(self, endpoint_id: str, operation: str) -> float | None:
        return self._means.get((endpoint_id, operation))


class InFlightCounter:
    """Counts the jobs polled now at all endpoints that share it."""

    def __init__(self) -> None:
        self.size = 0

    @contextmanager
    def one_more(self) -> Generator[None]:
        self.size += 1
        try:
            yield
        finally:
            self.size -= 1


_JOBS = 20_000

KEPT_S = 30.0
"""How long a result is kept for repeated status calls: a transcript of some hours takes a hundred megabytes."""


@dataclass(slots=True, eq=False)
class CachedJob:
    """One job's cached status. Times are seconds of the event loop's clock."""

    ref: JobRef
    operation: str = ""
    """Empty for a job that an earlier process sent."""
    submitted: float | None = None
    """None for a job that an earlier process sent."""
    webhook_name: str = ""
    """Name in the job's webhook address."""
    status: JobStatus | None = None
    polled_at: float = float("-inf")
    """Time of the last status response."""
    next_poll_at: float = float("-inf")
    """Time of the next poll."""
    polls: int = 0
    """Polls since the last change of state."""
    running_since: float | None = None
    cancelled: bool = False
    """RunPod has accepted a cancel."""
    unconfirmed_since: float | None = None
    """When an unconfirmed end was first reported; None: there is none."""
    mistaken_for: str = ""
    """The other job or task of the last mistaken response."""
    result_dropped: bool = False
    """The job is final and its result, which may be large, has been dropped."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the current wait for the next poll."""

    @property
    def final_status(self) -> JobStatus | None:
        """The final status with its result; None when the job is not final or its result was dropped."""
        return self.status if self.status and self.status.final and not self.result_dropped else None

    @property
    def only_unconfirmed(self) -> bool:
        """Whether only an unconfirmed end is known."""
        return self.status is None and self.unconfirmed_since is not None

    def is_confirmed(self, confirmed: bool, now: float, confirm_s: float) -> bool:
        """Whether a response may be believed: a sure one, or one `confirm_s` after the end was first reported."""
        if confirmed or (self.status and self.status.final):
            self.unconfirmed_since = None
            return True
        self.polled_at = now
        if self.unconfirmed_since is None:
            self.unconfirmed_since = now
        return now - self.unconfirmed_since >= confirm_s

    def update(self, status: JobStatus, now: float) -> None:
        """Merges `status` into the status and restarts the poll count when the state has changed."""
        status = with_task_id(status, self.ref.job_id, self.ref.task_id)
        self.unconfirmed_since = None
        if self.result_dropped and self.status and status.state == self.status.state:
            self.status, self.result_dropped = status, False
            return
        before = self.status
        self.status = merged(before, status)
        self.polled_at = now
        if before is None or before.state != self.status.state:
            self.polls = 0
            self.running_since = now if self.status.state == "running" else None
        self.polls += 1

    def on_notice(self) -> None:
        """Handles a webhook notice: polls start again at the shortest interval, whatever such jobs usually take."""
        self.wake.clear()
        self.polls, self.running_since = 0, None

    def poll_now(self) -> None:
        self.polled_at = self.next_poll_at = float("-inf")
        self.wake.set()

    def restart(self, now: float) -> None:
        """Resets the job to queued after RunPod has restarted it."""
        self.status, self.result_dropped, self.cancelled, self.unconfirmed_since = (
            JobStatus("queued"),
            False,
            False,
            None,
        )
        self.polled_at, self.polls, self.running_since, self.next_poll_at = now, 1, None, float("-inf")


class JobCache:
    """The jobs last used, by endpoint and id, and for a while the results of those that ended.

    `dropped` is called with each job that is evicted or becomes final.
    """

    def __init__(self, dropped: Callable[[CachedJob], None]) -> None:
        self._jobs: OrderedDict[tuple[str, str], CachedJob] = OrderedDict()
        self._dropped = dropped

    def add(self, job: CachedJob) -> CachedJob:
        self._jobs[job.ref.endpoint, job.ref.job_id] = job
        while len(self._jobs) > _JOBS:
            _, oldest = self._jobs.popitem(last=False)
            self._dropped(oldest)
        return job

    def of(self, ref: JobRef) -> CachedJob | None:
        key = ref.endpoint, ref.job_id
        job = self._jobs.get(key)
        if job:
            self._jobs.move_to_end(key)
        return job

    def all(self) -> tuple[CachedJob, ...]:
        return tuple(self._jobs.values())

    def ended(self, job: CachedJob) -> None:
        """Records that `job` has become final; its result is dropped after `KEPT_S`."""
        self._dropped(job)
        if job.status and job.status.result and job.status.result.payload:
            asyncio.get_running_loop().call_later(KEPT_S, _forget, job)


def _forget(job: CachedJob) -> None:
    if job.status and job.status.final and not job.result_dropped:
        job.status, job.result_dropped = replace(job.status, result=None), True
