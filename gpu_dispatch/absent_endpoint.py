"""The backend of an endpoint that is not in the configuration although recorded jobs are there."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.backend import Health, JobRef, JobStatus
from gpu_dispatch.task import GpuResult, GpuTask, TaskParams
from manifests.errors import EndpointDenied, JobLost


@dataclass(frozen=True, slots=True)
class AbsentEndpoint:
    """A GpuBackend that takes no task and knows no job: only the worker's answer in the store can report a result.

    Its jobs count as lost if its workers claim. Otherwise they fail for good, because they may have been done.
    """

    name: str
    endpoint_id: str
    claims: bool
    durable: bool = True

    def refusal(self, params: TaskParams) -> str:
        del params
        return "it is not configured any more"

    async def start(self) -> None:
        """Does nothing."""

    async def submit(self, task: GpuTask) -> JobRef:
        del task
        raise EndpointDenied(f"The endpoint {self.name} is not configured any more.", hint="Configure it again.")

    async def restart(self, job: JobRef) -> bool:
        del job
        return False

    async def status(self, job: JobRef, *, wait_s: float = 0.0) -> JobStatus:
        del wait_s
        if self.claims:
            return JobStatus("lost")
        error = JobLost(
            f"The job {job.job_id} is at {self.name}, which is not configured any more, and nobody can ask for it.",
            hint="Configure the endpoint again, or look for the job in the provider's console; then redrive.",
            retryable=False,
        )
        return JobStatus("failed", result=GpuResult("", error=error.info))

    async def cancel(self, job: JobRef) -> None:
        """Does nothing: the withdrawn claim stops the job."""
        del job

    async def health(self) -> tuple[Health, ...]:
        return (Health(self.name, False, "It is not configured any more.", "Configure it again.", serves=False),)

    async def close(self) -> None:
        """Does nothing."""
