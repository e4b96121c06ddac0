"""The interface of a backend, which is one endpoint that runs tasks, and `follow`, which waits for a job's end."""

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
    """The address of a submitted job. It is recorded at once, so that a later process finds the job again."""

    backend: str
    """The backend's `name`."""
    endpoint: str
    """The provider's id of the endpoint; on this machine the slot's capability."""
    job_id: str
    task_id: str = field(default="", compare=False)
    """The task that the result has to name, where workers name tasks; "" in old records."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The status of a job at one moment."""

    state: State
    """If it is "lost", the backend knows no such job."""
    progress: Progress | None = None
    result: GpuResult | None = None
    """Only in final states. A completed job without one: the provider kept none, the answer in the store has it."""

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one thing, as one line for a person."""

    name: str
    ok: bool
    detail: str
    """What is there."""
    remedy: str = ""
    """What to do when it is not `ok`."""
    serves: bool = True
    """Whether tasks sent there get done, however slowly; False where somebody has to act first."""


class GpuBackend(Protocol):
    """One endpoint that runs tasks. Methods raise GpuDropError only; its `retryable` says whether a retry can help."""

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
        """Whether jobs outlive this process. If not, a job of an earlier process is "lost" and is submitted again."""
        ...

    @property
    def claims(self) -> bool:
        """Whether its workers follow `GpuTask.claim`: only one of several jobs sent for one attempt works."""
        ...

    def refusal(self, params: TaskParams) -> str:
        """Returns why no worker here can do a task with `params`; "" when one can."""
        ...

    async def start(self) -> None: ...

    async def submit(self, task: GpuTask) -> JobRef:
        """Submits `task` and returns once the backend has it, running or queued.

        Raises EndpointUnavailable, EndpointDenied or TaskRefused when the task was certainly not taken, and
        SubmitUnknown when it may have been.
        """
        ...

    async def restart(self, job: JobRef) -> bool:
        """Restarts a failed job under its own id, so that no second job arises. Returns False where it cannot."""
        ...

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        """Returns the status of `job` after its next change, or after `wait_s` seconds."""
        ...

    async def cancel(self, job: JobRef) -> None:
        """Stops `job` if it is not final. An unknown job is no error."""
        ...

    async def health(self) -> tuple[Health, ...]:
        """Returns the health of each thing here. Never raises: what cannot be asked is not `ok`."""
        ...

    async def close(self) -> None:
        """Ends everything that this object started, within seconds. Jobs of a durable backend go on."""
        ...


POLL_S = 30.0
"""Longest wait of one status request, in seconds."""


async def follow(
    backend: GpuBackend,
    job: JobRef,
    *,
    on_status: Callable[[JobStatus], None],
    rng: random.Random,
    policy: RetryPolicy = JOB_STATUS,
    on_poll: Callable[[bool], object] = bool,
) -> JobStatus:
    """Waits until `job` is final ("lost" included) and returns its status.

    `on_status` gets every new status once, the final one included; `on_poll` gets, after every request, whether the
    backend answered. Retryable errors are waited out without limit: the caller sets the deadline. Cancelling this
    leaves the job as it is.
    """
    retries = Retries(policy, rng=rng)
    known: JobStatus | None = None
    while True:
        look = partial(backend.status, job, wait_s=POLL_S if known else 0.0)
        status = await retries.call(look, on=_is_waited_out, on_failure=lambda _: on_poll(False))
        on_poll(True)
        if status != known:
            on_status(status)
            known = status
        if status.final:
            return status


def _is_waited_out(error: Exception) -> bool:
    """Returns whether requests go on after `error`. They do after a revoked key: the job goes on and is paid for."""
    return isinstance(error, GpuDropError) and (error.retryable or isinstance(error, EndpointDenied))
