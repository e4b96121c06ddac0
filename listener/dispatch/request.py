"""What is asked of the dispatcher, and what it tells of every attempt. Recorded by the engine."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backend import JobRef
from gpu_dispatch.task import GpuResult, TranscribeParams
from handlers.base import PlannedTask
from listener.clock import Clock
from manifests.errors import ErrorInfo, InputDenied, QueuedTooLong, StoreDenied, SubmitUnknown, TransferFailed
from manifests.media import UrlRef

NOBODY_BEGAN = frozenset({QueuedTooLong.code, SubmitUnknown.code})
"""Errors that may pass, and tell that no worker has begun the task."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One task of a run: `index` of `count`. `give_up` (epoch seconds) is when it stops waiting for an endpoint.

    `day_usd` is what the runs of `trigger` may cost a day. `received` (epoch seconds): when its event came.
    """

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
    day_usd: float | None = None
    received: float = 0.0

    @property
    def task_id(self) -> str:
        return f"{self.run_id}-j{self.index}"

    def given_up(self, clock: Clock) -> bool:
        """Whether it waits no longer for an endpoint."""
        received = self.received or self.give_up
        return clock.age_s(received) > self.give_up - received

    @property
    def waits_s(self) -> float:
        """How long it waits for an endpoint, from when its event came."""
        return self.give_up - (self.received or self.give_up)

    @property
    def detail(self) -> str:
        """What else the length of the work depends on: the model."""
        return self.task.params.model if isinstance(self.task.params, TranscribeParams) else ""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one attempt: a result with a payload, or an error. `usd` is what all its jobs cost, `at` its end.

    `job` is the one that worked, or the last one sent; None when none was taken. `counts`: whether it is one of the
    attempts a task may have; one that no worker ever began, or whose process went away, is not. `marks`: it left a
    claim and an answer in the store; `alone`: and one job only can ever have carried it. `unserved`: the store did not
    serve its worker.
    """

    started: float
    at: float
    job: JobRef | None = None
    result: GpuResult | None = None
    error: ErrorInfo | None = None
    usd: float = 0.0
    counts: bool = True
    marks: bool = False
    alone: bool = False
    unserved: bool = False

    @property
    def nobody_began(self) -> bool:
        return self.error is not None and self.error.code in NOBODY_BEGAN


def not_served(error: ErrorInfo, request: JobRequest) -> bool:
    """Whether a worker failed because the store, and no other host, was away or refused it."""
    if error.code == StoreDenied.code:
        return True
    elsewhere = {file.name for file in request.task.inputs if isinstance(file.media, UrlRef)}
    passing = error.code == InputDenied.code or (error.code == TransferFailed.code and error.retryable)
    return passing and error.where not in elsewhere
