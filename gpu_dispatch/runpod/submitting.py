"""A task as the body of a submission, and the way round RunPod's limit for its size."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from gpu_dispatch.runpod.policy import submission_policy_of
from gpu_dispatch.runpod.settings import RunPodSettings
from gpu_dispatch.task import GpuTask
from manifests.errors import TaskRefused

BODY_BYTES = 10_000_000
"""RunPod takes 10 MB, and does not say which."""


def body_of(task: GpuTask, settings: RunPodSettings, *, webhook: str | None) -> bytes:
    """Raises TaskRefused for a task that is too large to be sent, and what the dialect raises."""
    body = _body(settings.dialect.request(task), task, settings, webhook)
    if len(body) <= BODY_BYTES:
        return body
    if task.stored_at is None or not settings.dialect.claims:
        raise TaskRefused(
            f"The task is {len(body):,} bytes long; RunPod takes {BODY_BYTES:,}.",
            hint="Use shorter subtitles, or split the list of images.",
        )
    order = {"task_url": task.stored_at, "trusted_hosts": task.trusted_hosts}
    if task.secret:
        order["secret"] = task.secret
    return _body(order, task, settings, webhook)


def _body(request: Any, task: GpuTask, settings: RunPodSettings, webhook: str | None) -> bytes:
    policy = submission_policy_of(
        task.timeout_s,
        endpoint_s=settings.timeout_s,
        ttl_s=settings.ttl_s,
        low_priority=settings.low_priority,
    )
    wire = {"executionTimeout": policy.execution_ms, "ttl": policy.ttl_ms}
    if policy.low_priority:
        wire["lowPriority"] = True
    body = {"input": request, "policy": wire}
    return to_json(body if webhook is None else body | {"webhook": webhook})
