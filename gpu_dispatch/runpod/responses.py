"""RunPod's answers, read leniently, and what they say of a job."""

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
    """What RunPod says of a job. Times are milliseconds; `output` and `error` are whatever JSON it hands on."""

    id: Text = ""
    status: Text = ""
    delay_ms: Annotated[Count, Field(validation_alias="delayTime")] = 0
    execution_ms: Annotated[Count, Field(validation_alias="executionTime")] = 0
    output: Any = None
    error: Any = None

    @property
    def state(self) -> State | None:
        """None: it says nothing of a state. A word that nobody knows yet is not an end."""
        return STATES.get(self.status.upper(), "running") if self.status else None

    def about(self, job_id: str, *, certainly: bool = False) -> bool:
        """Whether it speaks of that job: of no other, and `certainly` by its id."""
        return self.id == job_id or (not self.id and not certainly)


@dataclass(frozen=True, slots=True)
class EndpointResponse:
    """What an endpoint says of itself: jobs and workers by state, under RunPod's names."""

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
    """None for what is no JSON object."""
    try:
        return _ANSWER.validate_json(body)
    except ValidationError:
        return None


def endpoint_response_from(body: bytes) -> EndpointResponse | None:
    """None for what is no JSON object."""
    try:
        return _ENDPOINT.validate_json(body)
    except ValidationError:
        return None


def plain_error(body: bytes) -> str:
    """What a JSON error says, under any of the usual names; "" when it says nothing."""
    try:
        data = _ERROR.validate_json(body)
    except ValidationError:
        return ""
    return data.error or data.message or data.detail or data.title


_SHOWN = 100

_STATES: dict[str, State] = {RunCancelled.code: "cancelled", TaskTimedOut.code: "timed_out"}


@dataclass(frozen=True, slots=True)
class JobState:
    """What an answer says of a job. `sure`: it may be believed as it is; else a second one has to agree.

    `stranger`: whom it speaks of, where that is another job (`status` None) or another task (left out of `status`).
    """

    status: JobStatus | None
    sure: bool = True
    stranger: str = ""


def job_state_of(answer: JobResponse, job: JobRef, dialect: Dialect, *, cancelled: bool = False) -> JobState:
    """An end is sure where we asked for it, where the worker itself names the task, and where a worker that names
    none brings a payload. A provider's bare word may be wrong: it has been seen to say COMPLETED, then IN_PROGRESS."""
    status = job_status_of(answer, job.job_id, dialect, cancelled=cancelled)
    if not answer.about(job.job_id, certainly=status.final and not dialect.names_tasks):
        return JobState(None, stranger=f"job {answer.id[:_SHOWN]!r}")
    result = status.result
    if not status.final:
        return JobState(status)
    if result is None or not dialect.names_tasks:
        return JobState(status, sure=cancelled or (result is not None and result.payload is not None))
    named = "" if result.task_id == job.job_id else result.task_id
    if named and job.task_id in ("", named):
        return JobState(status)
    if named or result.payload:
        bare = replace(answer, output=None, error=None)
        return JobState(job_status_of(bare, job.job_id, dialect), sure=False, stranger=f"task {named[:_SHOWN]!r}")
    return JobState(status, sure=cancelled)


def job_status_of(answer: JobResponse, job_id: str, dialect: Dialect, *, cancelled: bool = False) -> JobStatus:
    """`cancelled`: RunPod has taken a cancel of the job. What it calls running after that is of no use to anybody."""
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
    """What is believed after `news`. An end stays, whatever arrives late; progress of one execution never falls."""
    if known is None:
        return news
    if known.final:
        return known
    if known.state == news.state == "running" and known.progress:
        return replace(news, progress=_further(known.progress, news.progress))
    return replace(news, progress=known.progress) if news.final else news


def with_task_id(status: JobStatus, job_id: str, task_id: str) -> JobStatus:
    """`status` with the task's id where the worker did not tell it."""
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
    """With RunPod's times where it tells them: those are what is paid for."""
    return replace(
        result,
        execution_ms=answer.execution_ms or result.execution_ms,
        delay_ms=answer.delay_ms or result.delay_ms,
    )
