"""What a worker left in the store, read as its result."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pydantic import ValidationError

from gpu_dispatch.believed import believed
from gpu_dispatch.packed import packed
from gpu_dispatch.task import GpuResult, Payload, TranscribeParams, Videos, result_from_json
from handlers.base import PlannedTask
from listener.process_pool import WORTH_A_PROCESS, ProcessPool
from manifests.errors import WorkerError


def fitting(result: GpuResult | None, task: PlannedTask) -> GpuResult | None:
    """`result` unless its payload is none of `task`: then the error of a worker that answers something else."""
    if result is None or result.payload is None or _fits(result.payload, task):
        return result
    error = WorkerError(
        "The worker's answer is not one to this task.", hint="Run listener and workers of the same version."
    )
    return replace(result, payload=None, error=error.info)


def _fits(payload: Payload, task: PlannedTask) -> bool:
    """Files are those that were planned, each once and of a size that a file has."""
    if isinstance(task.params, TranscribeParams):
        return not isinstance(payload, Videos)
    if not isinstance(payload, Videos):
        return False
    names = [file.name for file in payload.files]
    planned = {target.name for target in task.outputs}
    return len(set(names)) == len(names) and planned.issuperset(names) and all(f.size > 0 for f in payload.files)


async def read_result(data: bytes, pool: ProcessPool) -> GpuResult | None:
    """None for what is no result. Raises WorkerCrashed when a large one cannot be read on this machine."""
    if len(data) < WORTH_A_PROCESS:
        return await asyncio.to_thread(result_of, data)
    return await pool.run(result_of, data)


def result_of(data: bytes) -> GpuResult | None:
    """A large transcript comes packed."""
    try:
        result = result_from_json(data)
    except ValidationError:
        return None
    return packed(believed(result)) if result else None
