"""What is known here of RunPod's jobs: the last news of each, and when to look again."""

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
    """Where a job stands: `looks` that found nothing new (from 1), `in_flight` jobs that are looked at, all together.

    `running_s` is how long it has been seen to run; `expected_s` how long such jobs take. None: not known.
    """

    looks: int
    in_flight: int = 1
    running_s: float | None = None
    expected_s: float | None = None


@dataclass(frozen=True, slots=True)
class PollInterval:
    """Short gaps at first, since many jobs are short, then longer ones, since long jobs can wait.

    Where it is known how long such a job takes, there is nothing to see before that. However many jobs there are, all
    looks together stay below `calls_per_s`: gaps grow with their number.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    growth: float = 1.5
    calls_per_s: float = 50.0
    spread: float = 0.2

    def gap(self, moment: PollMoment) -> float:
        return max(self._alone(moment), moment.in_flight / self.calls_per_s)

    def jittered(self, moment: PollMoment, rng: random.Random) -> float:
        """Jobs that were sent together are not looked at together."""
        return self.gap(moment) * rng.uniform(1.0 - self.spread, 1.0 + self.spread)

    def _alone(self, moment: PollMoment) -> float:
        if moment.running_s is None or not moment.expected_s:
            return min(self.longest_s, self.first_s * self.growth ** min(moment.looks - 1, 64))
        early = _EARLY * moment.expected_s - moment.running_s
        if early > 0:
            return min(self.longest_s, max(self.first_s, early))
        late = max(_STEP * moment.expected_s, _OVERDUE_STEP * (moment.running_s - moment.expected_s))
        return min(self.longest_s, max(self.first_s, late))


class Durations:
    """How long jobs of an operation take at an endpoint: a mean that forgets slowly."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], float] = {}

    def learn(self, endpoint_id: str, operation: str, seconds: float) -> None:
        known = self._means.get((endpoint_id, operation), seconds)
        self._means[endpoint_id, operation] = known + _WEIGHT * (seconds - known)

    def expected(self, endpoint_id: str, operation: str) -> float | None:
        return self._means.get((endpoint_id, operation))


class InFlightCounter:
    """How many jobs are looked at now, at all endpoints that share it."""

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
"""How long a result is kept, in seconds, for others who ask: a transcript of some hours takes a hundred megabytes."""


@dataclass(slots=True, eq=False)
class CachedJob:
    """One job. Times are seconds of the event loop's clock. `operation` and `submitted` are known only of jobs that
    this process sent; `hint` is the name under which RunPod tells of it.

    `doubted`: when an end was first told that needs a second look. `stranger`: of whom RunPod last spoke instead.

    `wake` ends whatever wait there is: there is reason to look.
    """

    ref: JobRef
    operation: str = ""
    submitted: float | None = None
    hint: str = ""
    status: JobStatus | None = None
    told: float = float("-inf")
    next_look: float = float("-inf")
    looks: int = 0
    running_since: float | None = None
    cancelled: bool = False
    doubted: float | None = None
    stranger: str = ""
    forgotten: bool = False
    """It is final, and its result, which may be large, is no longer kept."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settled(self) -> JobStatus | None:
        """The final status, if it is known in full."""
        return self.status if self.status and self.status.final and not self.forgotten else None

    @property
    def unheard(self) -> bool:
        """Whether nothing is known of it but an end that is in doubt."""
        return self.status is None and self.doubted is not None

    def believes(self, sure: bool, now: float, confirm_s: float) -> bool:
        """Whether news may be taken in: `sure` ones, and those that come `confirm_s` after doubt began. A look before
        that, whatever it was made for, is no second one."""
        if sure or (self.status and self.status.final):
            self.doubted = None
            return True
        self.told = now
        if self.doubted is None:
            self.doubted = now
        return now - self.doubted >= confirm_s

    def hear(self, news: JobStatus, now: float) -> None:
        """Takes `news` in, as far as it is believed."""
        news = with_task_id(news, self.ref.job_id, self.ref.task_id)
        self.doubted = None
        if self.forgotten and self.status and news.state == self.status.state:
            self.status, self.forgotten = news, False
            return
        before = self.status
        self.status = merged(before, news)
        self.told = now
        if before is None or before.state != self.status.state:
            self.looks = 0
            self.running_since = now if self.status.state == "running" else None
        self.looks += 1

    def hinted(self) -> None:
        """It was told of: from now on it is looked at as if it had just begun, whatever such jobs take."""
        self.wake.clear()
        self.looks, self.running_since = 0, None

    def look_now(self) -> None:
        self.told = self.next_look = float("-inf")
        self.wake.set()

    def begin_again(self, now: float) -> None:
        """After a retry: what was final is so no longer."""
        self.status, self.forgotten, self.cancelled, self.doubted = JobStatus("queued"), False, False, None
        self.told, self.looks, self.running_since, self.next_look = now, 1, None, float("-inf")


class JobCache:
    """Jobs by endpoint and id: the ones last asked for, and for a while the results of those that ended."""

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
        """`job` has just become final."""
        self._dropped(job)
        if job.status and job.status.result and job.status.result.payload:
            asyncio.get_running_loop().call_later(KEPT_S, _forget, job)


def _forget(job: CachedJob) -> None:
    if job.status and job.status.final and not job.forgotten:
        job.status, job.forgotten = replace(job.status, result=None), True
