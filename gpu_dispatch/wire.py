"""Converts tasks and results to JSON for the wire, and back from untrusted bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult, GpuTask, PackedTranscript, uncached

_TASK: TypeAdapter[GpuTask] = TypeAdapter(GpuTask)
_RESULT: TypeAdapter[GpuResult] = TypeAdapter(GpuResult)
_LARGE_RESULT = uncached(GpuResult)


def task_to_wire(task: GpuTask) -> Any:
    """Returns `task` as JSON-able data, for the input of a RunPod job or a task in the store."""
    return _TASK.dump_python(task, mode="json")


def task_from_wire(data: Any) -> GpuTask:
    """Parses a task. Raises pydantic.ValidationError."""
    return _TASK.validate_python(data)


def result_to_wire(result: GpuResult) -> Any:
    return _RESULT.dump_python(result, mode="json")


def result_from_json(data: bytes) -> GpuResult | None:
    """Parses a result without an object tree of its JSON; None for null. Raises pydantic.ValidationError."""
    result = _LARGE_RESULT.validate_json(data)
    return _unpacked_only(result) if result else None


def result_from_wire(data: Any) -> GpuResult:
    """Parses a result. Raises pydantic.ValidationError."""
    return _unpacked_only(_RESULT.validate_python(data))


def _unpacked_only(result: GpuResult) -> GpuResult:
    """Drops a packed payload: its content was not validated and may be of any size."""
    return replace(result, payload=None) if isinstance(result.payload, PackedTranscript) else result
