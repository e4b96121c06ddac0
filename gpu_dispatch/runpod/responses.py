"""Parses RunPod's responses leniently and derives a job's status from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.runpod.dialects.base import Dialect
from gpu_dispatch.task import FINAL, GpuResult, Progress, State, uncached
from gpu_dispatch.validation import validated_progress, validated_result
from manifests.errors import ErrorInfo, GpuDropError, RunCancelled, TaskTimedOut, WorkerCrashed

STATES: dict[str, State] = {
    "IN_QUEUE": "queued",
    "IN_PROGRESS": "running",
    "RUNNING": "running",
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMED_OUT": "timed_out",
}

_LARGEST = 2**53


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return round(value) if 0 <= value <= _LARGEST else 0


def _counts(value: Any) -> Any:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, BeforeValidator(_count)]
Counts = Annotated[dict[str, Count], BeforeValidator(_counts)]


@dataclass(frozen=True, slots=True)
class JobResponse:
    """RunPod's response about one job."""

    id: Text = ""
    status: Text = ""
    delay_ms: Annotated[Count, Field(validation_alias="delayTime")] = 0
    execution_ms: Annotated[Count, Field(validation_alias="executionTime")] = 0
    output: Any = None
    """JSON of any shape, passed on from the worker."""
    error: Any = None
    """JSON of any shape, passed on from the worker or made by RunPod."""

    @property
    def state(self) -> State | None:
        """The job's state; None when the response names none. An unknown word counts as "running", never as an end."""
        return STATES.get(self.status.upper(), "running") if self.status else None

    def is_about(self, job_id: str, *, certainly: bool = False) -> bool:
        """Whether the response names that job; one that names no job passes unless `certainly`."""
        return self.id == job_id or (not self.id and not certainly)


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """RunPod's response about an endpoint: counts of jobs and workers by RunPod's names of their states."""

    jobs: Counts = field(default_factory=dict[str, int])
    workers: Counts = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class _Error:
    error: Text = ""
    message: Text = ""
    detail: Text = ""
    title: Text = ""


_ERROR: TypeAdapter[_Error] = TypeAdapter(_Error)
_ANSWER = uncached(JobResponse)
_ENDPOINT: TypeAdapter[EndpointResponse] = TypeAdapter(EndpointResponse)


def job_response_from(body: bytes) -> JobResponse | None:
    """Parses a response about a job; None when it is no JSON object."""
    try:
        return _ANSWER.validate_json(body)
    except ValidationError:
        return None


def endpoint_response_from(body: bytes) -> EndpointResponse | None:
    """Parses a response about an endpoint; None when it is no JSON object."""
    try:
        return _ENDPOINT.validate_json(body)
    except ValidationError:
        return None


def plain_error(body: bytes) -> str:
    """Returns the message of a JSON error under any of the usual names; "" when there is none."""
    try:
        data = _ERROR.validate_json(body)
    except ValidationError:
        return ""
    return data.error or data.message or data.detail or data.title


_SHOWN = 100

_STATES: dict[str, State] = {RunCancelled.code: "cancelled", TaskTimedOut.code: "timed_out"}


@dataclass(frozen=True, slots=True)
class JobState:
    """A job's status as one response reports it."""

    status: JobStatus | None
    """None when the response is about another job."""
    confirmed: bool = True
    """Whether it may be believed at once; otherwise a second response has to agree."""
    mistaken_for: str = ""
    """The other job or task that the response is about; another task's result is left out of `status`."""


def job_state_of(answer: JobResponse, job: JobRef, dialect: Dialect, *, cancelled: bool = False) -> JobState:
    """Derives a job's state from a response; `cancelled` says that RunPod has accepted a cancel of the job.

    An end is sure after an accepted cancel, when the worker's result names the task, and when a worker that names no
    tasks sends a payload. RunPod's status alone may be wrong: it has reported COMPLETED, then IN_PROGRESS.
    """
    status = job_status_of(answer, job.job_id, dialect, cancelled=cancelled)
    if not answer.is_about(job.job_id, certainly=status.final and not dialect.names_tasks):
        return JobState(None, mistaken_for=f"job {answer.id[:_SHOWN]!r}")
    result = status.result
    if not status.final:
        return JobState(status)
    if result is None or not dialect.names_tasks:
        return JobState(status, confirmed=cancelled or (result is not None and result.payload is not None))
    named = "" if result.task_id == job.job_id else result.task_id
    if named and job.task_id in ("", named):
        return JobState(status)
    if named or result.payload:
        bare = replace(answer, output=None, error=None)
        return JobState(
            job_status_of(bare, job.job_id, dialect), confirmed=False, mistaken_for=f"task {named[:_SHOWN]!r}"
        )
    return JobState(status, confirmed=cancelled)


def job_status_of(answer: JobResponse, job_id: str, dialect: Dialect, *, cancelled: bool = False) -> JobStatus:
    """Translates a response into a status; after an accepted cancel a job reported as running counts as cancelled."""
    state = answer.state or "queued"
    if state not in FINAL:
        if cancelled:
            return _ended("cancelled", answer, job_id)
        progress = dialect.progress(answer.output) if state == "running" else None
        return JobStatus(state, validated_progress(progress) if progress else None)
    if state in ("cancelled", "timed_out"):
        return _ended(state, answer, job_id)
    result = dialect.result(job_id, answer.output, answer.error)
    if state == "failed" and (result is None or result.error is None):
        return _ended(state, answer, job_id)
    if result is None:
        return JobStatus(state)
    result = validated_result(result)
    if result.error:
        state = _STATES.get(result.error.code, "failed")
    return JobStatus(state, None, _timed(result, answer))


def merged(known: JobStatus | None, news: JobStatus) -> JobStatus:
    """Returns the status after `news`. A final status stays; progress of one execution never falls."""
    if known is None:
        return news
    if known.final:
        return known
    if known.state == news.state == "running" and known.progress:
        return replace(news, progress=_further(known.progress, news.progress))
    return replace(news, progress=known.progress) if news.final else news


def with_task_id(status: JobStatus, job_id: str, task_id: str) -> JobStatus:
    """Returns `status` with the task's id filled in where the worker did not name it."""
    if not task_id or status.result is None or status.result.task_id != job_id:
        return status
    return replace(status, result=replace(status.result, task_id=task_id))


def _further(known: Progress, news: Progress | None) -> Progress:
    return known if news is None or news.percent < known.percent else news


def _ended(state: State, answer: JobResponse, job_id: str) -> JobStatus:
    return JobStatus(state, None, _timed(GpuResult(job_id, error=_why(state)), answer))


def _why(state: State) -> ErrorInfo:
    error: GpuDropError = WorkerCrashed(
        "The job failed, and neither RunPod nor the worker says why.", hint="See the endpoint's log on RunPod."
    )
    if state == "cancelled":
        error = RunCancelled("The job was cancelled.")
    elif state == "timed_out":
        error = TaskTimedOut(
            "The job was not finished in the time it was given, and RunPod ended it.",
            hint="Use a shorter input, a smaller model or a faster GPU, or raise the endpoint's `timeout`.",
        )
    return error.info


def _timed(result: GpuResult, answer: JobResponse) -> GpuResult:
    """Returns `result` with RunPod's times where it reports them: they are what is billed."""
    return replace(
        result,
        execution_ms=answer.execution_ms or result.execution_ms,
        delay_ms=answer.delay_ms or result.delay_ms,
    )
