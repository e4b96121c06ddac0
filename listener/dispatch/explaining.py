"""What is said of an attempt's end where no worker and no endpoint says it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpu_dispatch.backend import JobRef, JobStatus
from listener.dispatch.legs import Leg
from manifests.errors import ErrorInfo, GpuDropError, JobLost, RunCancelled, WorkerError


def silent(status: JobStatus, leg: Leg) -> ErrorInfo:
    """The error of a job of which nothing came, not even an error."""
    if status.state == "lost":
        where = "The process that ran it" if not leg.sent.backend.durable else leg.sent.row.endpoint
        return JobLost(
            f"{where} knows nothing of the job any more, and it left no answer.", hint="It is started again by itself."
        ).info
    # An endpoint that says "completed" has lost the result: the job itself may well do better next time.
    return WorkerError(
        f"The job is {status.state} but brought no result.",
        hint="See the worker's log.",
        retryable=status.state == "completed",
    ).info


def going_on(error: GpuDropError, left: Sequence[JobRef]) -> GpuDropError:
    """`error`, and that some jobs may go on and be paid for."""
    jobs = ", ".join(f"{job.job_id} at {job.backend}" for job in left)
    told = f"The provider did not take the cancel of {jobs}: look in its console whether it goes on."
    return GpuDropError.from_info(replace(error.info, hint=f"{error.info.hint} {told}".strip()))


def taken_away(error: ErrorInfo, leg: Leg) -> ErrorInfo:
    """A run that is to end is ended before this: whoever cancelled the job did so at the endpoint."""
    if error.code != RunCancelled.code:
        return error
    return JobLost(
        f"Somebody took the job off {leg.sent.row.endpoint}.", hint="It is started again by itself; cancel the run."
    ).info


def vanished() -> JobLost:
    return JobLost("The job that held the claim left no answer.", hint="It is started again by itself.")
