"""The protocol between the local backend and its child processes: one JSON document a line.

Orders go to the child, reports come from it. `job` is the backend's id of the job, by which lines of a job that is
over are recognised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from gpu_dispatch.task import GpuResult, GpuTask, Progress
from gpu_dispatch.validation import validated_progress, validated_result

MAX_LINE = 512 * 2**20
"""Most bytes of a line; a transcript of ten hours with words takes about 10 MB."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    job: str
    task: GpuTask
    kind: Literal["run"] = "run"


@dataclass(frozen=True, slots=True)
class CancelOrder:
    job: str
    kind: Literal["cancel"] = "cancel"


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """The child has started and takes jobs."""

    kind: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class ProgressReport:
    job: str
    progress: Progress
    kind: Literal["moved"] = "moved"


@dataclass(frozen=True, slots=True)
class DoneReport:
    job: str
    result: GpuResult
    kind: Literal["done"] = "done"


Order = RunOrder | CancelOrder
WorkerReport = ReadyReport | ProgressReport | DoneReport


def _adapter(kinds: Any) -> TypeAdapter[Any]:
    discriminated: Any = Annotated[kinds, Field(discriminator="kind")]
    return TypeAdapter(discriminated)


_ORDER = _adapter(Order)
_REPORT = _adapter(WorkerReport)


def order_line(order: Order) -> bytes:
    return _ORDER.dump_json(order) + b"\n"


def order_from_line(line: bytes) -> Order:
    """Parses an order. Raises pydantic.ValidationError."""
    return _ORDER.validate_json(line)


def report_line(report: WorkerReport) -> bytes:
    # A time or a probability may be NaN; as null it would make the whole report invalid.
    return to_json(report, inf_nan_mode="constants") + b"\n"


def report_from_line(line: bytes) -> WorkerReport:
    """Parses a report and validates the worker's words. Raises pydantic.ValidationError."""
    report: WorkerReport = _REPORT.validate_json(line)
    if isinstance(report, ProgressReport):
        return replace(report, progress=validated_progress(report.progress))
    return replace(report, result=validated_result(report.result)) if isinstance(report, DoneReport) else report
