"""Places that run tasks, all alike to a test: a backend, a way for files in and out, the processes it has."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from gpu_dispatch.backend import GpuBackend, JobRef, JobStatus
from gpu_dispatch.local.backend import LocalBackend
from gpu_dispatch.local.settings import LocalSettings
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from gpu_dispatch.runpod.endpoint import RunPodEndpoint
from gpu_dispatch.runpod.settings import ClientSettings, RunPodSettings
from gpu_dispatch.task import (
    AddAudioParams,
    Clip,
    GpuResult,
    GpuTask,
    Img2VidParams,
    TaskInput,
    TaskOutput,
    TranscribeParams,
)
from support.deadlines import HANG_S
from support.exchange import BucketFiles, Files, FolderFiles
from support.media import Media
from support.processes import Started, name_of
from support.runpod.queue import provider

Operations = Literal["real", "odd"]


@dataclass
class Place:
    """`reopen` makes the backend anew, as the next process would, where jobs outlive one."""

    backend: GpuBackend
    media: Media
    files: Files
    reopen: Callable[[], Awaitable[GpuBackend]] | None = None
    seen: list[JobStatus] = field(default_factory=list)
    started: Started = field(default_factory=Started)

    def output(self, name: str) -> Path:
        return self.files.output(name)

    def workers(self) -> list[psutil.Process]:
        """Every process that works for this place: what this process has started since the place was opened."""
        return self.started()

    async def ended(self, name: str) -> None:
        """Returns when no process of this place has `name` in its name any more."""
        async with asyncio.timeout(HANG_S):
            while any(name in process for process in map(name_of, self.workers())):
                await asyncio.sleep(0.05)

    async def reopened(self) -> GpuBackend:
        assert self.reopen
        self.backend = await self.reopen()
        return self.backend

    def odd(self, what: str, *, timeout_s: float = 60.0) -> GpuTask:
        return self.task(f"odd-{what}", TranscribeParams(audio="a", model=what), timeout_s=timeout_s)

    def stored(self, task: GpuTask) -> GpuTask:
        """`task`, also where a worker can fetch it when it is too large to be handed over."""
        return replace(task, stored_at=self.files.stored(task))

    def join(self, name: str = "joined.mp4") -> GpuTask:
        """Quick: one second of picture and sound put together."""
        return self.task(
            "join",
            AddAudioParams(video="v.mp4", audio="a.wav", output="out.mp4"),
            {"v.mp4": self.media.video(1.0), "a.wav": self.media.tone(1.0)},
            {"out.mp4": name},
        )

    def film(self, *, frames: int, timeout_s: float = 600.0, name: str = "film.mp4") -> GpuTask:
        """An image in motion; a hundred thousand frames take far longer than any test."""
        params = Img2VidParams(clips=(Clip("i.jpg", "clip.mp4", frames),), width=320, height=180)
        image = {"i.jpg": self.media.image(suffix=".jpg")}
        return self.task("film", params, image, {"clip.mp4": name}, timeout_s)

    def films(self, names: list[str]) -> GpuTask:
        """One clip for each of `names`."""
        params = Img2VidParams(clips=tuple(Clip("i.jpg", name, 24) for name in names))
        return self.task("films", params, {"i.jpg": self.media.image(suffix=".jpg")}, {n: n for n in names})

    def task(
        self,
        task_id: str,
        params: Any,
        inputs: Mapping[str, Path] | None = None,
        outputs: Mapping[str, str] | None = None,
        timeout_s: float = 600.0,
    ) -> GpuTask:
        """`inputs` and `outputs`: what the task calls a file, and the file."""
        files = self.files
        return GpuTask(
            task_id,
            params,
            tuple(TaskInput(name, files.address(path)) for name, path in (inputs or {}).items()),
            tuple(TaskOutput(name, files.target(left), "video/mp4") for name, left in (outputs or {}).items()),
            timeout_s=timeout_s,
            trusted_hosts=files.trusted_hosts,
            answer_url=files.answer_url(task_id),
        )

    async def until(self, job: JobRef, *, stage: str = "", final: bool = False) -> JobStatus:
        """Waits for `stage` of a running job, or for its end; keeps what it saw."""
        wait_s = 0.0
        async with asyncio.timeout(HANG_S):
            while True:
                status = await self.backend.status(job, wait_s=wait_s)
                wait_s = HANG_S
                self.seen.append(status)
                there = stage and status.progress and status.progress.stage == stage
                if status.final or (there and not final):
                    return status

    async def result(self, task: GpuTask) -> JobStatus:
        return await self.until(await self.backend.submit(task), final=True)

    def answer(self, task: GpuTask, status: JobStatus) -> GpuResult | None:
        """The result of a completed job: the backend's, or else the one its worker left with the files."""
        assert status.state == "completed"
        return status.result or self.files.answer(task.task_id)


@asynccontextmanager
async def local_place(
    folder: Path, media: Media, operations: Operations, environ: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[Place]:
    root = folder / "root"
    root.mkdir()
    given = LocalSettings(
        file_root=root,
        work_parent=folder / "work",
        python=sys.executable if operations == "real" else str(_odd_python(folder)),
        **settings,  # pyright: ignore[reportArgumentType]
    )
    backend = LocalBackend(given, environ=os.environ if environ is None else environ)
    place = Place(backend, media, FolderFiles(root))
    await backend.start()
    try:
        yield place
    finally:
        await backend.close()


@asynccontextmanager
async def runpod_place(folder: Path, media: Media, operations: Operations, files: BucketFiles) -> AsyncIterator[Place]:
    """An endpoint with one worker that takes one job at a time; a worker that ends is followed by another."""
    started = Started()
    worker_env = {"GPUDROP_WORK_ROOT": str(folder / "work"), "GPUDROP_STOP_GRACE_S": "1", "GPUDROP_DEVICE": "cpu"}
    async with provider() as serving:
        client = RunPodClient(ClientSettings(api=serving.url), key=lambda: serving.api_key)
        settings = RunPodSettings("away", "contract", GpudropDialect())

        async def opened() -> RunPodEndpoint:
            backend = RunPodEndpoint(settings, client)
            await backend.start()
            return backend

        await client.start()
        try:
            endpoint = serving.endpoint("contract")
            async with endpoint.worker(operations, restart=True, **worker_env):
                place = Place(await opened(), media, files, opened, started=started)
                yield place
                await place.backend.close()
        finally:
            await client.close()


Opening = Callable[[Path, Media, Operations], AbstractAsyncContextManager[Place]]


@pytest.fixture(params=["local", "runpod"])
def opening(request: pytest.FixtureRequest) -> Opening:
    """Opens a place of each kind."""
    if request.param == "local":
        return local_place
    server, bucket = request.getfixturevalue("minio_server"), request.getfixturevalue("minio_bucket")
    tmp_path = request.getfixturevalue("tmp_path")
    return partial(runpod_place, files=BucketFiles(server, bucket, tmp_path))


@pytest.fixture
async def place(opening: Opening, tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    async with opening(tmp_path, media, "real") as place:
        yield place


@pytest.fixture
async def odd_place(opening: Opening, tmp_path: Path, media: Media) -> AsyncIterator[Place]:
    async with opening(tmp_path, media, "odd") as place:
        yield place


def _odd_python(folder: Path) -> Path:
    """A python that runs the odd worker, whatever module it is told to run."""
    script = folder / "python"
    worker = Path(__file__).with_name("odd_worker.py")
    script.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "{worker}" "$@"\n')
    script.chmod(0o755)
    return script
