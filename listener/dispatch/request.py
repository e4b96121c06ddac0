"""Requests to the dispatcher, and results of attempts. The engine records both."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult, TranscribeParams
from handlers.base import PlannedTask
from listener.clock import Clock
from manifests.errors import ErrorInfo, InputDenied, QueuedTooLong, StoreDenied, SubmitUnknown, TransferFailed
from manifests.references import UrlRef

NOBODY_BEGAN = frozenset({QueuedTooLong.code, SubmitUnknown.code})
"""Codes of errors that may pass, and mean that no worker has begun the task."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One task of a run: `index` of `count`."""

    run_id: str
    bucket: str
    key: str
    index: int
    count: int
    task: PlannedTask
    max_attempts: int
    trigger: str
    operation: str
    give_up: float
    """When it stops waiting for an endpoint, in epoch seconds."""
    day_usd: float | None = None
    """What the runs of `trigger` may cost a day, in US dollars; None: no limit."""
    received: float = 0.0
    """When its event came, in epoch seconds."""

    @property
    def task_id(self) -> str:
        return f"{self.run_id}-j{self.index}"

    def given_up(self, clock: Clock) -> bool:
        """Whether it has stopped waiting for an endpoint."""
        received = self.received or self.give_up
        return clock.age_s(received) > self.give_up - received

    @property
    def waits_s(self) -> float:
        """Seconds that it waits for an endpoint, from when its event came."""
        return self.give_up - (self.received or self.give_up)

    @property
    def detail(self) -> str:
        """The model, on which the length of the work depends, too; "" for operations without one."""
        return self.task.params.model if isinstance(self.task.params, TranscribeParams) else ""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of one attempt: a result with a payload, or an error."""

    started: float
    """Epoch seconds."""
    at: float
    """When it ended, in epoch seconds."""
    job: JobRef | None = None
    """The job that worked, or the last one sent; None when none was taken."""
    result: GpuResult | None = None
    error: ErrorInfo | None = None
    usd: float = 0.0
    """What all its jobs cost, in US dollars."""
    counts: bool = True
    """Whether it counts as one of the task's attempts: not if no worker began it, or its process went away."""
    marks: bool = False
    """Whether it succeeded with a claim, and so left its claim and an answer in the store."""
    alone: bool = False
    """Whether only one job can ever have carried its claim."""
    unserved: bool = False
    """Whether the store did not serve its worker."""

    @property
    def nobody_began(self) -> bool:
        return self.error is not None and self.error.code in NOBODY_BEGAN


def store_not_served(error: ErrorInfo, request: JobRequest) -> bool:
    """Whether a worker failed because the store, and no other host, was away or refused it."""
    if error.code == StoreDenied.code:
        return True
    elsewhere = {file.name for file in request.task.inputs if isinstance(file.media, UrlRef)}
    passing = error.code == InputDenied.code or (error.code == TransferFailed.code and error.retryable)
    return passing and error.where not in elsewhere
