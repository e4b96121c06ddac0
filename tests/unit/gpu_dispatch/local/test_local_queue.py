"""Whose job is next on this machine, and what a short one does while all slots are taken."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_dispatch.backend import JobRef
from gpu_dispatch.local.job import JobQueue, LocalJob
from gpu_dispatch.task import GpuTask, TranscribeParams
from support.deadlines import HANG_S
from support.media import Media
from support.places import local_place

NO_GPU: Mapping[str, object] = {"gpu": False, "express_after_s": 0.2}


def waiting(name: str, share: str) -> LocalJob:
    task = GpuTask(name, TranscribeParams(audio="a"), (), share=share)
    return LocalJob(JobRef("local", "whisper", name, name), task, 0.0)


async def test_folders_take_turns_and_within_one_the_first_comes_first() -> None:
    queue = JobQueue()
    for name in ("a1", "a2", "a3", "b1", "a/x1", "b2"):
        queue.put(waiting(name, f"media/{name[:-1]}"), short=False)
    assert [(await queue.take()).task.task_id for _ in range(6)] == ["a1", "b1", "a/x1", "b2", "a2", "a3"]


async def test_a_short_job_is_not_held_up_by_a_long_one(tmp_path: Path, media: Media) -> None:
    async with local_place(tmp_path, media, "odd", None, **NO_GPU) as place:
        long = await place.backend.submit(place.odd("patient"))
        await place.until(long, stage="patient")
        behind = await place.backend.submit(place.odd("fine"))
        short = replace(place.odd("fine--short"), short=True)
        assert (await place.result(short)).state == "completed"
        assert (await place.backend.status(long)).state == "running"
        assert (await place.backend.status(behind)).state == "queued"
        async with asyncio.timeout(HANG_S):
            while len(place.workers()) > 1:
                await asyncio.sleep(0.05)  # the express slot keeps no child


async def test_a_job_that_only_looked_short_waits_for_its_turn(tmp_path: Path, media: Media) -> None:
    async with local_place(tmp_path, media, "odd", None, **NO_GPU, express_s=3.0) as place:
        long = await place.backend.submit(place.odd("patient"))
        await place.until(long, stage="patient")
        forged = await place.backend.submit(replace(place.odd("patient--forged"), short=True))
        await place.until(forged, stage="patient")
        while (await place.backend.status(forged)).state == "running":
            await place.backend.status(forged, wait_s=60)
        assert (await place.backend.status(forged)).state == "queued"
        await place.backend.cancel(long)
        assert (await place.until(forged, stage="patient")).state == "running"
        await place.backend.cancel(forged)
        assert (await place.backend.status(forged)).state == "cancelled"


@pytest.mark.parametrize("gpu", [True, False])
async def test_no_second_model_is_put_into_a_gpu(tmp_path: Path, media: Media, gpu: bool) -> None:
    async with local_place(tmp_path, media, "odd", None, gpu=gpu, express_after_s=0.0) as place:
        long = await place.backend.submit(place.odd("patient"))
        await place.until(long, stage="patient")
        short = await place.backend.submit(replace(place.odd("fine"), short=True))
        await place.backend.status(short, wait_s=0.5 if gpu else 60)
        assert (await place.backend.status(short)).state != ("running" if gpu else "queued")
