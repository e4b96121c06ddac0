"""Stores and reads a job's answer: in the store it outlives the provider's queue and may exceed the queue's limit."""

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
    """Serializes `result` as JSON, signed where there is a key."""
    data = json.dumps(result_to_wire(result), ensure_ascii=False, separators=(",", ":")).encode()
    return signed(data, key, "answer")


async def leave_answer(task: GpuTask, result: GpuResult, limits: TransferLimits) -> bool:
    """Writes `result` to the task's `answer_url`; whether it was stored. The job's result is the same either way."""
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
    """Returns the answer that an earlier execution of this job left in the store; None where there is no valid one.

    Raises the retryable error of a store that stays unavailable for a minute and more; the listener retries longer.
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
