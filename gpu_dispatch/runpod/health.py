"""What an endpoint says of itself, in words for a person: pure."""

from __future__ import annotations

from gpu_dispatch.backend import Health
from gpu_dispatch.runpod.answers import EndpointResponse

_SHOWN = ("running", "idle", "initializing", "throttled", "unhealthy")
_ABLE = ("running", "idle", "ready", "initializing")

_NO_WORKERS = (
    "No worker is there and none is being started, with jobs in the queue",
    "Set the endpoint's max workers to 1 or more (RunPod lowers it by itself when an endpoint is idle for days), "
    "and check the account's credit.",
)
_THROTTLED = (
    "Every worker is throttled: RunPod has no such GPU free",
    "Add GPU pools or regions to the endpoint, or name a second endpoint in config.yaml.",
)
_CRASHING = (
    "Every worker is unhealthy, with jobs in the queue: they crash as they start",
    "See the workers' log on RunPod: a wrong image, a failed check of the GPU, or too little memory.",
)


def health_text(name: str, answer: EndpointResponse) -> Health:
    """One line: the counts, and what is wrong with them."""
    detail = _counts(answer)
    problem = _problem(answer)
    if problem is None:
        return Health(name, True, detail)
    return Health(name, False, f"{problem[0]} ({detail}).", problem[1], serves=problem is _THROTTLED)


def _problem(answer: EndpointResponse) -> tuple[str, str] | None:
    """What keeps jobs from being done. Workers at work or on their way are no trouble."""
    if any(answer.workers.get(state) for state in _ABLE):
        return None
    queued = answer.jobs.get("inQueue", 0) > 0
    if answer.workers.get("unhealthy") and queued:
        return _CRASHING
    if answer.workers.get("throttled"):
        return _THROTTLED
    return _NO_WORKERS if queued and answer.workers else None


def _counts(answer: EndpointResponse) -> str:
    there = [f"{answer.workers[state]} {state}" for state in _SHOWN if answer.workers.get(state)]
    workers = ", ".join(there) or "none"
    running, queued = answer.jobs.get("inProgress", 0), answer.jobs.get("inQueue", 0)
    return f"workers: {workers}; jobs: {running} running, {queued} queued"
