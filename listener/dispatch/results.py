"""What a worker left in the store, read as its result."""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from gpu_dispatch.believed import believed
from gpu_dispatch.packed import packed
from gpu_dispatch.task import GpuResult, result_from_json
from listener.process_pool import WORTH_A_PROCESS, ProcessPool


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
