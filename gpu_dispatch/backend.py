"""What every place that runs tasks can do, and how a job there is followed to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gpu_dispatch.net.retries import JOB_STATUS, Retries, RetryPolicy
from gpu_dispatch.task import FINAL, GpuResult, GpuTask, Progress, State, TaskParams
from manifests.errors import EndpointDenied, GpuDropError


@dataclass(frozen=True, slots=True)
class JobRef:
    """Where a submitted task lives. Recorded at once: with it a later process finds the job again.

    `backend` is a backend's `name`; `endpoint` is the provider's id of the endpoint (on this machine the slot's kind).
    `task_id` is what its result has to name, where workers name tasks; "" in what was recorded before it was kept.
    """

    backend: str
    endpoint: str
    job_id: str
    task_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A look at a job.

    `result` may be there once `state` is final. "lost": the backend knows no such job. "completed" without a result:
    the provider kept none; what the worker left in the store tells.
    """

    state: State
    progress: Progress | None = None
    result: GpuResult | None = None

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Health:
    """One line for a person: `detail` says what is there, `remedy` what to do when it is not `ok`.

    `serves`: whether tasks that are sent there get done, however slowly; it is False where somebody has to act first.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    serves: bool = True


class GpuBackend(Protocol):
    """Runs tasks somewhere: one endpoint. Methods raise GpuDropError only; `retryable` tells if asking again helps."""

    @property
    def name(self) -> str:
        """The endpoint's name in the configuration."""
        ...

    @property
    def endpoint_id(self) -> str:
        """The provider's id of the endpoint; "" where there is none."""
        ...

    @property
    def durable(self) -> bool:
        """Whether jobs outlive this process. When not, a job of an earlier process is "lost": submit it again."""
        ...

    @property
    def claims(self) -> bool:
        """Whether its workers heed `GpuTask.claim`: of several jobs sent for one attempt, one works."""
        ...

    def refusal(self, params: TaskParams) -> str:
        """Why nobody here can do a task with `params`, in words; "" when they can."""
        ...

    async def start(self) -> None: ...

    async def submit(self, task: GpuTask) -> JobRef:
        """Hands `task` over. Returns as soon as the backend has it, running or queued.

        Raises EndpointUnavailable, EndpointDenied or TaskRefused when the task was not taken, for certain, and
        SubmitUnknown when it may have been.
        """
        ...

    async def again(self, job: JobRef) -> bool:
        """Starts a job that failed once more, under its id: no second job can come of it. False where it cannot."""
        ...

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        """How `job` stands now, or as soon as it changes within `wait_s` seconds."""
        ...

    async def cancel(self, job: JobRef) -> None:
        """Stops `job` if it is not final; unknown jobs are no error."""
        ...

    async def health(self) -> tuple[Health, ...]:
        """One line for each thing that can be well or not. Never raises: what cannot be asked is not `ok`."""
        ...

    async def close(self) -> None:
        """Ends everything that was started here, within 3 seconds. Jobs of a durable backend go on."""
        ...


LOOK_S = 30.0
"""The longest one look may take."""


async def follow(
    backend: GpuBackend,
    job: JobRef,
    *,
    on_status: Callable[[JobStatus], None],
    rng: random.Random,
    policy: RetryPolicy = JOB_STATUS,
    on_look: Callable[[bool], object] = bool,
) -> JobStatus:
    """The final status of `job`; "lost" is one, too. `on_status` hears every new status once, the final one included;
    `on_look` hears after every look whether the backend told anything.

    Retryable errors of the backend are waited out, for as long as it takes: whoever follows sets the deadline. Being
    cancelled leaves the job as it is: it may be looked for again.
    """
    retries = Retries(policy, rng=rng)
    known: JobStatus | None = None
    while True:
        look = partial(backend.status, job, wait_s=LOOK_S if known else 0.0)
        status = await retries.call(look, on=_is_waited_out, told=lambda _: on_look(False))
        on_look(True)
        if status != known:
            on_status(status)
            known = status
        if status.final:
            return status


def _is_waited_out(error: Exception) -> bool:
    """A key that was revoked is a reason to wait: the job goes on, and is paid for."""
    return isinstance(error, GpuDropError) and (error.retryable or isinstance(error, EndpointDenied))
