"""The answer of a job, left in the store: it outlives the provider's queue, and may be larger than that carries."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from dataclasses import replace

from pydantic import ValidationError

from gpu_dispatch.signatures import key_from_text, signed, verified
from gpu_dispatch.task import GpuResult, GpuTask
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.web import WebClient
from gpu_dispatch.wire import result_from_json, result_to_wire
from manifests.errors import GpuDropError
from manifests.text import without_secrets_in

_LOG = logging.getLogger("gpu_dispatch.worker")
_TOTAL_S = 300.0
_MAX_BYTES = 128 * 2**20 + 256
_NAME = "the answer"


def result_bytes(result: GpuResult, key: bytes | None = None) -> bytes:
    """Signed where there is a key."""
    data = json.dumps(result_to_wire(result), ensure_ascii=False, separators=(",", ":")).encode()
    return signed(data, key, "answer")


async def leave_answer(task: GpuTask, result: GpuResult, limits: TransferLimits) -> bool:
    """Whether `result` lies at the task's `answer_url` now. The job's own result is the same either way."""
    if not task.answer_url or not task.answer_url.startswith(("http:", "https:")):
        return False
    data = await asyncio.to_thread(result_bytes, result, key_from_text(task.secret))
    headers = {"Content-Type": "application/json"}
    bounded = replace(limits, total_s=min(limits.total_s, _TOTAL_S))
    try:
        async with WebClient(task.trusted_hosts, bounded, random.Random()) as web:  # noqa: S311 - jitter
            answer = await web.ask("PUT", task.answer_url, name=_NAME, data=data, headers=headers)
    except GpuDropError as e:
        _LOG.warning("The answer of %s was not stored: %s", task.task_id, e)
        return False
    if not 200 <= answer.status < 300:
        _LOG.warning(
            "The store did not take the answer of %s: %d at %s",
            task.task_id,
            answer.status,
            without_secrets_in(task.answer_url),
        )
    return 200 <= answer.status < 300


async def earlier_answer(task: GpuTask, limits: TransferLimits) -> GpuResult | None:
    """What a run of this job that has ended left in the store; None where it left nothing that can be read.

    Raises TransferFailed when the store, asked for a minute and more, did not say: the listener will ask it longer.
    """
    if not task.answer_get_url or not task.answer_get_url.startswith(("http:", "https:")):
        return None
    bounded = replace(limits, total_s=min(limits.total_s, _TOTAL_S))
    try:
        async with WebClient(task.trusted_hosts, bounded, random.Random()) as web:  # noqa: S311 - jitter
            found = await web.ask("GET", task.answer_get_url, name=_NAME, max_bytes=_MAX_BYTES)
    except GpuDropError as e:
        _LOG.warning("Whether %s was done before is unknown: %s", task.task_id, e)
        if e.info.retryable:
            raise
        return None
    if found.status != 200:
        if found.status != 404:
            where = without_secrets_in(task.answer_get_url)
            _LOG.warning("Whether %s was done before is unknown: %d at %s", task.task_id, found.status, where)
        return None
    result = await asyncio.to_thread(_result, found.body, key_from_text(task.secret))
    return result if result and result.task_id == task.task_id else None


def _result(data: bytes, key: bytes | None) -> GpuResult | None:
    vouched = verified(data, key, "answer")
    try:
        return result_from_json(vouched) if vouched else None
    except ValidationError:
        return None
