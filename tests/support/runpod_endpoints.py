"""RunPod endpoints of ours before a provider of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from gpu_dispatch.backend import JobRef, JobStatus
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.runpod.endpoint import RunPodEndpoint
from gpu_dispatch.runpod.job_cache import PollInterval
from gpu_dispatch.runpod.poller import PollerServices
from gpu_dispatch.runpod.settings import ClientSettings, RunPodSettings
from gpu_dispatch.task import GpuTask, TaskInput, TranscribeParams
from support.deadlines import HANG_S
from support.runpod.queue import API_KEY

EP = "ep1"
QUICK = PollInterval(first_s=0.02, longest_s=0.05)
HEARD: dict[str, Any] = {
    "segments": [{"id": 0, "start": 0.0, "end": 1.0, "text": " Good morning."}],
    "detected_language": "en",
    "transcription": "Good morning.",
    "device": "cuda",
    "model": "base",
}
"""What a worker of the whisper-hub dialect answers."""

SIGNED = "https://store.example/b/a.mp3?X-Amz-Signature=5ec2e7"


def task(name: str = "t1", **changes: Any) -> GpuTask:
    params = TranscribeParams(audio="a.mp3", word_timestamps=False)
    return replace(GpuTask(name, params, (TaskInput("a.mp3", SIGNED),)), **changes)


def settings(dialect: str = "whisper-hub", **changes: Any) -> RunPodSettings:
    quick = RunPodSettings(
        "hub",
        EP,
        dialects().get(dialect),
        visibility_grace_s=0.0,
        confirm_s=0.01,
        health_recheck_s=0.0,
        retry_for_s=5.0,
    )
    return replace(quick, **changes)


@asynccontextmanager
async def client_of(url: str, key: Callable[[], str] = lambda: API_KEY, **changes: Any) -> AsyncIterator[RunPodClient]:
    client = RunPodClient(replace(ClientSettings(api=url), **changes), key=key)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def endpoint_of(
    url: str,
    given: RunPodSettings | None = None,
    *,
    pace: PollInterval = QUICK,
    client: dict[str, Any] | None = None,
    **parts: Any,
) -> AsyncIterator[RunPodEndpoint]:
    async with client_of(url, **(client or {})) as session:
        endpoint = RunPodEndpoint(given or settings(), session, shared=PollerServices(pace), **parts)
        await endpoint.start()
        try:
            yield endpoint
        finally:
            await endpoint.close()


async def ended(endpoint: RunPodEndpoint, job: JobRef, within_s: float = HANG_S) -> JobStatus:
    """The final status, or the last one there is after `within_s` without news."""
    while True:
        before = await endpoint.status(job)
        if before.final:
            return before
        status = await endpoint.status(job, wait_s=within_s)
        if status.final or status == before:
            return status
