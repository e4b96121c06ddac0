"""Builds the body of a submission from a task, with RunPod's execution policy and within its size limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from gpu_dispatch.runpod.settings import RunPodSettings
from gpu_dispatch.task import GpuTask
from manifests.errors import TaskRefused

SHORTEST_S = 5.0
"""RunPod's lower bound of a job's time."""
LONGEST_S = 7 * 86_400.0
"""RunPod's upper bound of a job's time."""

SLACK_S = 90.0
"""Added to the task's timeout: the worker ends an overdue task itself and takes up to 60 s to answer."""


@dataclass(frozen=True, slots=True)
class SubmissionPolicy:
    """RunPod's execution policy of one job."""

    execution_ms: int
    ttl_ms: int
    """From the submission on; it ends a running job, too."""
    low_priority: bool = False


def submission_policy_of(
    task_s: float, *, endpoint_s: float | None, ttl_s: float, low_priority: bool
) -> SubmissionPolicy:
    """Returns the policy for a task with timeout `task_s` at an endpoint with timeout `endpoint_s`, in seconds."""
    allowed = task_s if endpoint_s is None else min(task_s, endpoint_s)
    runs_s = min(max(allowed + SLACK_S, SHORTEST_S), LONGEST_S)
    stays_s = min(max(ttl_s, runs_s), LONGEST_S)
    return SubmissionPolicy(round(runs_s * 1000), round(stays_s * 1000), low_priority)


BODY_BYTES = 10_000_000
"""RunPod's limit is 10 MB; whether decimal or binary is not documented."""


def body_of(task: GpuTask, settings: RunPodSettings, *, webhook: str | None) -> bytes:
    """Returns the JSON body that submits `task`, by reference to `GpuTask.stored_at` when it is too large.

    Raises TaskRefused when it is too large and cannot be sent by reference, and what the dialect raises.
    """
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
