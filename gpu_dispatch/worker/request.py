"""Parses and validates a job's input, which is untrusted; nothing else checks it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gpu_dispatch.signatures import key_from_text, unsealed
from gpu_dispatch.task import GpuTask
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.web import WebClient
from gpu_dispatch.wire import task_from_wire
from manifests.errors import InputDenied, TaskRefused, TransferFailed

MAX_TASK_BYTES = 64 * 2**20
_NAME = "the task"


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job's `input`: the task itself, or its address."""

    task: Any = None
    task_url: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    """Hosts of `task_url` that may be private."""
    secret: str = field(default="", repr=False)
    """Key in hexadecimal digits that seals the task at `task_url`; "": it is not sealed."""


_ORDER: TypeAdapter[JobOrder] = TypeAdapter(JobOrder)


async def task_of(data: Any, limits: TransferLimits) -> GpuTask:
    """Returns the task of an input. Raises TaskRefused when it is invalid, and what a failed download raises."""
    try:
        order = _ORDER.validate_python(data)
    except ValidationError as e:
        raise _refused(e) from None
    if (order.task is None) == (order.task_url is None):
        raise TaskRefused("The input must have either `task` or `task_url`.", hint=_HINT, where="input")
    wire = order.task if order.task_url is None else await _fetched(order.task_url, order, limits)
    try:
        task = task_from_wire(wire)
        key_from_text(task.secret)
    except ValidationError as e:
        raise _refused(e) from None
    except ValueError:
        raise TaskRefused("The task's secret is none.", hint=_HINT, where="secret") from None
    return task


async def _fetched(url: str, order: JobOrder, limits: TransferLimits) -> Any:
    async with WebClient(order.trusted_hosts, limits, random.Random()) as web:  # noqa: S311 - jitter
        answer = await web.ask("GET", url, name=_NAME, max_bytes=MAX_TASK_BYTES)
    if answer.status in (401, 403):
        expired = b"expired" in answer.body[:4096].lower()
        raise InputDenied(
            f"The task may not be read ({answer.status}{', its address has expired' if expired else ''}).",
            hint="Send the job again with a new address.",
            where="task_url",
            retryable=expired,
        )
    if answer.status != 200:
        raise TransferFailed(
            f"The task could not be fetched: the store answered {answer.status}.",
            hint="Check that the object is still there.",
            where="task_url",
            retryable=False,
        )
    try:
        key = key_from_text(order.secret)
        body = unsealed(answer.body, key, "task") if key else answer.body
        if body is None:
            raise TaskRefused("What lies at `task_url` is not what the listener left.", hint=_HINT, where="task_url")
        return json.loads(body)
    except (ValueError, RecursionError) as e:
        raise TaskRefused("What lies at `task_url` is no JSON.", hint=_HINT, where="task_url") from e


_HINT = "Input as the gpudrop listener of the same version sends it."


def _refused(e: ValidationError) -> TaskRefused:
    """Returns an error with the first fault but not its value, which may be a signed address."""
    fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])[:200]
    return TaskRefused(f"The input is no task of this worker: {fault['msg']}.", hint=_HINT, where=where or "input")
