"""A task and its result as they travel: to JSON for a worker, and back from a stranger's bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from gpu_dispatch.task import GpuResult, GpuTask, PackedTranscript, uncached

_TASK: TypeAdapter[GpuTask] = TypeAdapter(GpuTask)


_RESULT: TypeAdapter[GpuResult] = TypeAdapter(GpuResult)


_LARGE_RESULT = uncached(GpuResult)


def task_to_wire(task: GpuTask) -> Any:
    """`task` as JSON-able data: the `input` of a RunPod job, or a line for a local child."""
    return _TASK.dump_python(task, mode="json")


def task_from_wire(data: Any) -> GpuTask:
    """Raises pydantic.ValidationError when `data` is no task."""
    return _TASK.validate_python(data)


def result_to_wire(result: GpuResult) -> Any:
    return _RESULT.dump_python(result, mode="json")


def result_from_json(data: bytes) -> GpuResult | None:
    """Without the tree that JSON makes in memory. Raises pydantic.ValidationError when `data` is no result."""
    result = _LARGE_RESULT.validate_json(data)
    return _unpacked_only(result) if result else None


def result_from_wire(data: Any) -> GpuResult:
    """Raises pydantic.ValidationError when `data` is no result."""
    return _unpacked_only(_RESULT.validate_python(data))


def _unpacked_only(result: GpuResult) -> GpuResult:
    """What is packed was not looked at, and may be of any size: from elsewhere it counts as nothing."""
    return replace(result, payload=None) if isinstance(result.payload, PackedTranscript) else result
