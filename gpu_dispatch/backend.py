"""What every place that runs tasks can do: this machine, RunPod, and whatever comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gpu_dispatch.task import FINAL, GpuResult, GpuTask, Progress, State


@dataclass(frozen=True, slots=True)
class JobRef:
    """Where a submitted task lives. Recorded at once: with it a later process finds the job again."""

    backend: str
    endpoint: str
    job_id: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A look at a job. `result` is there once `state` is final, but for "lost": the backend knows no such job."""

    state: State
    progress: Progress | None = None
    result: GpuResult | None = None

    @property
    def final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Health:
    """One line for a person: `detail` says what is there, `remedy` what to do when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class GpuBackend(Protocol):
    """Runs tasks somewhere. Methods raise GpuDropError only; `retryable` says whether asking again can help."""

    @property
    def name(self) -> str: ...

    @property
    def durable(self) -> bool:
        """Whether jobs outlive this process. When not, a job of an earlier process is "lost": submit it again."""
        ...

    async def start(self) -> None: ...

    async def submit(self, task: GpuTask) -> JobRef:
        """Hands `task` over. Returns as soon as the backend has it, running or queued."""
        ...

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        """How `job` stands now, or as soon as it changes within `wait_s` seconds."""
        ...

    async def cancel(self, job: JobRef) -> None:
        """Stops `job` if it is not final; unknown jobs are no error."""
        ...

    async def health(self) -> tuple[Health, ...]: ...

    async def close(self) -> None:
        """Ends everything that was started here, within 3 seconds."""
        ...
