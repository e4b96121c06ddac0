"""The answer of a job, left in the store: it outlives the provider's queue, and may be larger than that carries."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import replace

from gpu_dispatch.task import GpuResult, GpuTask, result_to_wire
from gpu_dispatch.transfer.limits import TransferLimits, shown
from gpu_dispatch.transfer.web import WebClient
from manifests.errors import GpuDropError

_LOG = logging.getLogger("gpu_dispatch.worker")
_TOTAL_S = 300.0


def result_bytes(result: GpuResult) -> bytes:
    return json.dumps(result_to_wire(result), ensure_ascii=False, separators=(",", ":")).encode()


async def leave_answer(task: GpuTask, result: GpuResult, limits: TransferLimits) -> bool:
    """Whether `result` lies at the task's `answer_url` now. The job's own result is the same either way."""
    if not task.answer_url or not task.answer_url.startswith(("http:", "https:")):
        return False
    data = await asyncio.to_thread(result_bytes, result)
    headers = {"Content-Type": "application/json"}
    bounded = replace(limits, total_s=min(limits.total_s, _TOTAL_S))
    try:
        async with WebClient(task.trusted_hosts, bounded, random.Random()) as web:  # noqa: S311 - jitter
            answer = await web.ask("PUT", task.answer_url, name="the answer", data=data, headers=headers)
    except GpuDropError as e:
        _LOG.warning("The answer of %s was not stored: %s", task.task_id, e)
        return False
    if not 200 <= answer.status < 300:
        _LOG.warning(
            "The store did not take the answer of %s: %d at %s", task.task_id, answer.status, shown(task.answer_url)
        )
    return 200 <= answer.status < 300
