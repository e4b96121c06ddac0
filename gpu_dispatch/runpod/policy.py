"""What a job may take, as RunPod is told: pure."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST_S = 5.0
LONGEST_S = 7 * 86_400.0
"""RunPod's bounds for a job's time."""

SLACK_S = 90.0
"""A worker ends a task by itself when its time is over, and takes up to 60 s to answer; RunPod shall not be quicker."""


@dataclass(frozen=True, slots=True)
class SubmissionPolicy:
    """Milliseconds. `ttl_ms` counts from the submission and ends even a job that runs."""

    execution_ms: int
    ttl_ms: int
    low_priority: bool = False


def submission_policy_of(
    task_s: float, *, endpoint_s: float | None, ttl_s: float, low_priority: bool
) -> SubmissionPolicy:
    """`task_s` is the task's own timeout, `endpoint_s` the endpoint's."""
    allowed = task_s if endpoint_s is None else min(task_s, endpoint_s)
    runs_s = min(max(allowed + SLACK_S, SHORTEST_S), LONGEST_S)
    stays_s = min(max(ttl_s, runs_s), LONGEST_S)
    return SubmissionPolicy(round(runs_s * 1000), round(stays_s * 1000), low_priority)
