"""Plans and answers as a run would have them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from gpu_dispatch.task import GpuResult, VideoFile, Videos
from handlers.base import Input, Planning
from manifests.references import ObjectRef, ReferencePolicy, resolve_reference

settings.register_profile("handlers", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("handlers")


@pytest.fixture
def planning():
    """Planning of `manifest`, dropped as s3://media/in/NAME.job.json, its references resolved and found."""

    def make(handler, manifest, *, name="talk", folder="out/", contents=None):
        inputs = {}
        for ref in handler.references(manifest):
            media = resolve_reference(ref.text, bucket="media", folder="in/", policy=ReferencePolicy(), where=ref.role)
            size = 1000 if isinstance(media, ObjectRef) else None
            inputs[ref.role] = Input(media, size, (contents or {}).get(ref.role) if ref.read else None)
        return Planning(manifest, name, "media", folder, inputs)

    return make


@pytest.fixture
def encoded():
    """A worker's answer to every task of a plan of videos."""

    def answer(plan, encoder="h264_nvenc"):
        return tuple(
            GpuResult(
                f"task-{i}",
                Videos(tuple(VideoFile(t.name, 5, 1.0, 1920, 1080, 24) for t in task.outputs), encoder),
                device="cuda",
            )
            for i, task in enumerate(plan.tasks)
        )

    return answer
