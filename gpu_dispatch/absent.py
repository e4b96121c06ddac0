"""An endpoint that has been taken out of the configuration, though a job of ours is there."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backend import Health, JobRef, JobStatus
from gpu_dispatch.task import GpuTask, TaskParams
from manifests.errors import EndpointDenied


@dataclass(frozen=True, slots=True)
class AbsentEndpoint:
    """A GpuBackend that knows no job: only what a worker left in the store can tell. It takes nothing."""

    name: str
    endpoint_id: str
    durable: bool = True
    claims: bool = True

    def refusal(self, params: TaskParams) -> str:
        del params
        return "it is not configured any more"

    async def start(self) -> None:
        """Nothing to do."""

    async def submit(self, task: GpuTask) -> JobRef:
        del task
        raise EndpointDenied(f"The endpoint {self.name} is not configured any more.", hint="Configure it again.")

    async def again(self, job: JobRef) -> bool:
        del job
        return False

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        del job, wait_s
        return JobStatus("lost")

    async def cancel(self, job: JobRef) -> None:
        """Its claim, taken from it, stops it."""
        del job

    async def health(self) -> tuple[Health, ...]:
        return (Health(self.name, False, "It is not configured any more.", "Configure it again.", serves=False),)

    async def close(self) -> None:
        """Nothing to do."""
