"""RunPod's answers, read leniently: what is missing or odd counts as nothing, and only what is no object is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from gpu_dispatch.task import State, uncached

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
